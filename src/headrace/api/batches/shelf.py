"""Everything that batches keep in the operator's data folder, and who gets rid of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from headrace.api.batches.answer import all_written_out
from headrace.api.batches.batch_store import BatchStore
from headrace.api.batches.database import Database
from headrace.api.batches.file_store import FileStore
from headrace.api.batches.limits import BatchLimits, Space
from headrace.api.batches.records import FileRecord
from headrace.api.batches.validation import pieces


class Shelf:
    """Files, batches and pictures in one folder, which belongs to one server at a time.

    ```
    batches.sqlite3   files, batches, lines and their answers
    files/            uploaded files
    pictures/BATCH/   pictures of its lines
    ```

    Raises `ServiceError` where another server uses the folder.
    """

    def __init__(self, folder: Path, limits: BatchLimits, now: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.limits = limits
        self.now = now
        self._database = Database(folder)
        self.space = Space(limits.stored_bytes, self._stored())
        self.files = FileStore(self._database, folder / "files", limits, self.space, now)
        self.batches = BatchStore(self._database, limits, self.space, now)
        self._sweep()

    def pictures(self, batch: str) -> Path:
        """Where a batch's pictures lie. Only for identifiers that the database gave."""
        return self.folder / "pictures" / batch

    def content(self, file: FileRecord) -> Iterator[bytes]:
        """A file's bytes, `file.bytes` of them, a few at a time."""
        if file.kind == "input":
            return pieces(self.files.path(file.id))
        assert file.batch is not None
        return all_written_out(self.batches.answers(file.batch, file.kind), self.pictures(file.batch))

    def forget(self, file: FileRecord) -> None:
        """Removes a file; with a batch's output go its pictures. Raises `ApiError` 409 while a batch reads it."""
        if file.kind == "input":
            self.files.forget_input(file.id)
            return
        self.batches.forget_answers(file)
        if file.kind == "output" and file.batch is not None:
            shutil.rmtree(self.pictures(file.batch), ignore_errors=True)

    def forget_expired(self) -> None:
        """Removes what the operator's retention, or the caller's own, has run out for."""
        for file in self._expired():
            self.forget(file)
        self.batches.forget_old()

    def close(self) -> None:
        """Lets another server have the folder."""
        self._database.close()

    def _expired(self) -> list[FileRecord]:
        """What a batch reads stays until that is over."""
        rows = self._database.rows(
            "SELECT * FROM files WHERE expires_at <= ? AND id NOT IN (SELECT input_file FROM batches "
            "WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling'))",
            [int(self.now())],
        )
        return [FileRecord(**dict(row)) for row in rows]

    def _stored(self) -> int:
        row = self._database.row(
            "SELECT (SELECT coalesce(sum(bytes), 0) FROM files WHERE kind = 'input') + "
            "(SELECT coalesce(sum(stored), 0) FROM lines) AS used"
        )
        assert row is not None
        return int(row["used"])

    def _sweep(self) -> None:
        """Removes pictures of batches whose output was removed when the process ended."""
        folder = self.folder / "pictures"
        folder.mkdir(exist_ok=True, mode=0o700)
        for kept in folder.iterdir():
            if self._database.row("SELECT 1 FROM lines WHERE batch = ? LIMIT 1", [kept.name]) is None:
                shutil.rmtree(kept, ignore_errors=True)
