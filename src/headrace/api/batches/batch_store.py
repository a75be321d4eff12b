"""Batches and what became of each line: every change is one transaction, so a lost process loses no answer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from headrace.api.batches.database import Database, insert
from headrace.api.batches.limits import BatchLimits, Space
from headrace.api.batches.records import OVER, RUNNING, BatchRecord, FileRecord, LineRecord, LineState, new_id
from headrace.api.batches.refusals import in_use, too_large, unknown_id

PROBLEMS_SHOWN = 100  # of one batch; the error file has all
CANCELLED = ("batch_cancelled", "This request was not executed before the batch was cancelled.")
EXPIRED = ("batch_expired", "This request could not be executed before the completion window expired.")


class BatchStore:
    """Batches by identifier; for any thread."""

    def __init__(
        self, database: Database, limits: BatchLimits, space: Space, now: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._limits = limits
        self._space = space
        self._now = now

    def create(self, record: BatchRecord) -> BatchRecord:
        """Takes a batch. Raises `ApiError` 413 where too many are not over, `ApiError` 404 without its file."""
        running = ", ".join("?" * len(RUNNING))
        with self._database.transaction() as connection:
            known = connection.execute("SELECT kind FROM files WHERE id = ?", [record.input_file]).fetchone()
            if known is None or known["kind"] != "input":
                raise unknown_id("input_file_id", record.input_file)
            query = f"SELECT count(*) FROM batches WHERE status IN ({running})"
            if connection.execute(query, RUNNING).fetchone()[0] >= self._limits.batches:
                problem = f"{self._limits.batches} batches are not over yet"
                raise too_large("input_file_id", problem, "Wait until one is")
            insert(connection, "batches", record)
        return record

    def get(self, identifier: str) -> BatchRecord:
        """Raises `ApiError` 404."""
        row = self._database.row("SELECT * FROM batches WHERE id = ?", [identifier])
        if row is None:
            raise unknown_id("batch_id", identifier)
        return BatchRecord(**dict(row))

    def page(self, after: str | None, limit: int) -> list[BatchRecord]:
        """At most `limit` batches that are older than `after`, the newest first. Raises `ApiError` 404."""
        where, values = "", []
        if after is not None:
            last = self.get(after)
            where, values = "WHERE (created_at, id) < (?, ?)", [last.created_at, last.id]
        statement = f"SELECT * FROM batches {where} ORDER BY created_at DESC, id DESC LIMIT ?"
        return [BatchRecord(**dict(row)) for row in self._database.rows(statement, [*values, limit])]

    def of_status(self, *statuses: str) -> list[BatchRecord]:
        """Batches, the oldest first."""
        marks = ", ".join("?" * len(statuses))
        statement = f"SELECT * FROM batches WHERE status IN ({marks}) ORDER BY created_at, id"
        return [BatchRecord(**dict(row)) for row in self._database.rows(statement, statuses)]

    def clear_lines(self, batch: str) -> None:
        """Forgets lines that an interrupted validation had found."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM lines WHERE batch = ?", [batch])
            connection.execute("UPDATE batches SET total = 0, failed = 0, problems = '[]' WHERE id = ?", [batch])

    def add_lines(self, batch: str, lines: Sequence[LineRecord], problems: Sequence[dict[str, Any]]) -> None:
        """Adds lines that were read, bad ones as FAILED with their answers, and what to show of those."""
        bad = sum(line.state == LineState.FAILED for line in lines)
        with self._database.transaction() as connection:
            for line in lines:
                insert(connection, "lines", line)
            row = connection.execute("SELECT problems FROM batches WHERE id = ?", [batch]).fetchone()
            shown = [*json.loads(row["problems"]), *problems][:PROBLEMS_SHOWN]
            connection.execute(
                "UPDATE batches SET total = total + ?, failed = failed + ?, problems = ? WHERE id = ?",
                [len(lines), bad, json.dumps(shown), batch],
            )

    def has_custom_id(self, batch: str, custom_id: str) -> bool:
        """Whether a line of the batch has it already."""
        query = "SELECT 1 FROM lines WHERE batch = ? AND custom_id = ?"
        return self._database.row(query, [batch, custom_id]) is not None

    def begin(self, batch: str) -> None:
        """A validated batch goes to work, unless it was cancelled meanwhile."""
        statement = "UPDATE batches SET status = 'in_progress', in_progress_at = ? WHERE id = ? AND status = ?"
        with self._database.transaction() as connection:
            connection.execute(statement, [int(self._now()), batch, "validating"])

    def refuse(self, batch: str, problem: dict[str, Any]) -> None:
        """A batch that cannot be worked on as a whole: `failed`, its lines forgotten."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM lines WHERE batch = ?", [batch])
            connection.execute(
                "UPDATE batches SET status = 'failed', failed_at = ?, problems = ?, total = 0, failed = 0 WHERE id = ?",
                [int(self._now()), json.dumps([problem]), batch],
            )

    def waiting(self, batch: str, behind: int) -> LineRecord | None:
        """The first line behind number `behind` that has no answer."""
        statement = "SELECT * FROM lines WHERE batch = ? AND state = 0 AND number > ? ORDER BY number LIMIT 1"
        row = self._database.row(statement, [batch, behind])
        return None if row is None else LineRecord(**dict(row))

    def answer(self, line: LineRecord, tokens: tuple[int, int] = (0, 0)) -> bool:
        """Writes a line's answer, once: False where it had one. `tokens` are those of its prompt and pictures."""
        good = line.state == LineState.ANSWERED
        with self._database.transaction() as connection:
            changed = connection.execute(
                "UPDATE lines SET state = ?, answer = ?, bytes = ?, stored = ? "
                "WHERE batch = ? AND number = ? AND state = 0",
                [line.state, line.answer, line.bytes, line.stored, line.batch, line.number],
            ).rowcount
            if changed:
                connection.execute(
                    "UPDATE batches SET completed = completed + ?, failed = failed + ?, "
                    "input_tokens = input_tokens + ?, output_tokens = output_tokens + ? WHERE id = ?",
                    [int(good), int(not good), *tokens, line.batch],
                )
        if changed:
            self._space.add(line.stored)
        return bool(changed)

    def cancel(self, batch: str) -> BatchRecord:
        """Asks for the end of a batch. Raises `ApiError` 404, and `ApiError` 409 where it is over."""
        statement = (
            "UPDATE batches SET status = 'cancelling', cancelling_at = ? "
            "WHERE id = ? AND status IN ('validating', 'in_progress')"
        )
        with self._database.transaction() as connection:
            changed = connection.execute(statement, [int(self._now()), batch]).rowcount
        record = self.get(batch)
        if not changed and record.status in OVER:
            raise in_use("batch_id", f"{batch} is over: {record.status}", "There is nothing to cancel")
        return record

    def finalize(self, batch: str) -> None:
        """No line of the batch is waiting any more."""
        statement = "UPDATE batches SET status = 'finalizing', finalizing_at = ? WHERE id = ?"
        with self._database.transaction() as connection:
            connection.execute(statement, [int(self._now()), batch])

    def finish(self, batch: str, status: str) -> None:
        """Ends a batch as `completed`, `failed`, `cancelled` or `expired`: lines without an answer get one.

        Its output and error files are there from now on.
        """
        code, message = EXPIRED if status == "expired" else CANCELLED
        answer = "json_object('id', id, 'custom_id', custom_id, 'response', NULL, 'error', json(?))"
        now = int(self._now())
        with self._database.transaction() as connection:
            left = connection.execute(
                f"UPDATE lines SET state = 2, answer = {answer}, bytes = 0 WHERE batch = ? AND state = 0",
                [json.dumps({"code": code, "message": message}), batch],
            ).rowcount
            connection.execute(
                "UPDATE lines SET bytes = length(CAST(answer AS BLOB)) + 1 WHERE batch = ? AND state = 2", [batch]
            )
            made = [self._output(connection, batch, kind, now) for kind in ("output", "errors")]
            connection.execute(
                f"UPDATE batches SET status = ?, {status}_at = ?, failed = failed + ?, output_file = ?, error_file = ? "
                "WHERE id = ?",
                [status, now, left, *made, batch],
            )

    def _output(self, connection: Any, batch: str, kind: str, now: int) -> str | None:
        count, size = connection.execute(
            "SELECT count(*), sum(bytes) FROM lines WHERE batch = ? AND state = ?", [batch, _STATES[kind]]
        ).fetchone()
        if not count:
            return None
        identifier = new_id("file-")
        name = f"{batch}_{'output' if kind == 'output' else 'error'}.jsonl"
        insert(
            connection,
            "files",
            FileRecord(identifier, kind, name, size, now, now + self._limits.retention_s, batch),
        )
        return identifier

    def answers(self, batch: str, kind: str) -> Iterator[LineRecord]:
        """Lines of the output ("output") or error file ("errors"), in the order of the input."""
        number = 0
        statement = "SELECT * FROM lines WHERE batch = ? AND state = ? AND number > ? ORDER BY number LIMIT 100"
        while rows := self._database.rows(statement, [batch, _STATES[kind], number]):
            yield from (LineRecord(**dict(row)) for row in rows)
            number = rows[-1]["number"]

    def forget_answers(self, file: FileRecord) -> None:
        """Removes an output or error file, and with it the lines that it was written of."""
        assert file.batch is not None
        condition = [file.batch, _STATES[file.kind]]
        with self._database.transaction() as connection:
            query = "SELECT coalesce(sum(stored), 0) FROM lines WHERE batch = ? AND state = ?"
            stored = connection.execute(query, condition).fetchone()[0]
            connection.execute("DELETE FROM lines WHERE batch = ? AND state = ?", condition)
            connection.execute("DELETE FROM files WHERE id = ?", [file.id])
        self._space.add(-stored)

    def forget_old(self) -> None:
        """Removes batches that are over and whose files nobody can fetch any more."""
        marks = ", ".join("?" * len(OVER))
        with self._database.transaction() as connection:
            connection.execute(
                f"DELETE FROM batches WHERE status IN ({marks}) AND created_at + ? < ? "
                "AND id NOT IN (SELECT batch FROM files WHERE batch IS NOT NULL)",
                [*OVER, self._limits.retention_s, int(self._now())],
            )


_STATES = {"output": LineState.ANSWERED, "errors": LineState.FAILED}
