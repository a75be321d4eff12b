"""Files of JSON lines: uploaded ones on disk, and the names of those that batches give."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from headrace.api.batches.database import Database, insert
from headrace.api.batches.limits import BatchLimits, Space
from headrace.api.batches.records import RUNNING, FileRecord, new_id
from headrace.api.batches.refusals import in_use, too_large, unknown_id

UPLOADED = "batch"
MADE = "batch_output"
MAX_NAME = 200


class Upload:
    """A file while it arrives. Left by an exception, or without `finish`, it leaves nothing behind."""

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._id = new_id("file-")
        self._size = 0
        self._file = store.path(self._id).open("xb")
        self._kept = False

    def write(self, data: bytes) -> None:
        """Adds bytes. Raises `ApiError` 413."""
        self._size += len(data)
        self._store.check_room(self._size)
        self._file.write(data)

    def finish(self, filename: str, keep_s: int | None = None) -> FileRecord:
        """The file, safe on disk, for `keep_s` seconds or as long as the operator keeps files."""
        self._file.flush()
        os.fsync(self._file.fileno())
        record = self._store.record(self._id, filename, self._size, keep_s)
        self._kept = True
        return record

    def __enter__(self) -> Upload:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        if not self._kept:
            with suppress(FileNotFoundError):
                self._store.path(self._id).unlink()


class FileStore:
    """Files by identifier."""

    def __init__(
        self, database: Database, folder: Path, limits: BatchLimits, space: Space, now: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._folder = folder
        self._limits = limits
        self._space = space
        self._now = now
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sweep()

    def upload(self) -> Upload:
        """A file that is to come."""
        return Upload(self)

    def path(self, identifier: str) -> Path:
        """Where an uploaded file lies. Only for identifiers that the database gave."""
        return self._folder / f"{identifier}.jsonl"

    def check_room(self, size: int) -> None:
        """Raises `ApiError` 413 where a file of `size` bytes, or as large so far, is not taken."""
        if size > self._limits.file_bytes:
            problem = f"the file is larger than {self._limits.file_bytes:,} bytes"
            raise too_large("file", problem, "Split it and submit several batches")
        if self._space.used + size > self._space.limit:
            problem = f"files and pictures take {self._space.used:,} of {self._space.limit:,} bytes: no room for more"
            raise too_large("file", problem, "Delete files that are no longer needed")

    def record(self, identifier: str, filename: str, size: int, keep_s: int | None) -> FileRecord:
        """Makes an uploaded file known."""
        now = int(self._now())
        kept = self._limits.retention_s if keep_s is None else min(keep_s, self._limits.retention_s)
        record = FileRecord(identifier, "input", filename[:MAX_NAME] or "lines.jsonl", size, now, now + kept)
        with self._database.transaction() as connection:
            insert(connection, "files", record)
        self._space.add(size)
        return record

    def get(self, identifier: str) -> FileRecord:
        """Raises `ApiError` 404."""
        row = self._database.row("SELECT * FROM files WHERE id = ?", [identifier])
        if row is None:
            raise unknown_id("file_id", identifier)
        return FileRecord(**dict(row))

    def page(self, after: str | None, limit: int, newest_first: bool, purpose: str | None) -> list[FileRecord]:
        """At most `limit` files behind `after`. Raises `ApiError` 404."""
        kinds = {None: "'input', 'output', 'errors'", UPLOADED: "'input'", MADE: "'output', 'errors'"}.get(purpose, "")
        sign, order = ("<", "DESC") if newest_first else (">", "ASC")
        where, values = f"kind IN ({kinds})", []
        if after is not None:
            last = self.get(after)
            where += f" AND (created_at, id) {sign} (?, ?)"
            values = [last.created_at, last.id]
        statement = f"SELECT * FROM files WHERE {where} ORDER BY created_at {order}, id {order} LIMIT ?"
        return [FileRecord(**dict(row)) for row in self._database.rows(statement, [*values, limit])]

    def forget_input(self, identifier: str) -> None:
        """Removes an uploaded file. Raises `ApiError` 409 while a batch reads it."""
        marks = ", ".join("?" * len(RUNNING))
        with self._database.transaction() as connection:
            user = connection.execute(
                f"SELECT id FROM batches WHERE input_file = ? AND status IN ({marks})", [identifier, *RUNNING]
            ).fetchone()
            if user is not None:
                raise in_use("file_id", f"{user['id']} reads this file", "Cancel it first, or wait for its end")
            row = connection.execute("DELETE FROM files WHERE id = ? RETURNING bytes", [identifier]).fetchone()
        if row is not None:
            self._space.add(-row["bytes"])
            with suppress(FileNotFoundError):
                self.path(identifier).unlink()

    def _sweep(self) -> None:
        """Removes what an upload left behind that the process did not survive."""
        known = {row["id"] for row in self._database.rows("SELECT id FROM files WHERE kind = 'input'")}
        for path in self._folder.iterdir():
            if path.stem not in known:
                path.unlink()
