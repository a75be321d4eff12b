"""One SQLite file, used by one server at a time."""

from __future__ import annotations

import fcntl
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from headrace.errors import ServiceError

VERSION = 1

SCHEMA = """
CREATE TABLE files (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, filename TEXT NOT NULL, bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, batch TEXT
) STRICT;
CREATE INDEX files_by_age ON files (created_at, id);
CREATE TABLE batches (
    id TEXT PRIMARY KEY, endpoint TEXT NOT NULL, input_file TEXT NOT NULL, status TEXT NOT NULL,
    completion_window TEXT NOT NULL, model TEXT NOT NULL, base_url TEXT NOT NULL, created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    in_progress_at INTEGER, finalizing_at INTEGER, completed_at INTEGER, failed_at INTEGER, expired_at INTEGER,
    cancelling_at INTEGER, cancelled_at INTEGER, output_file TEXT, error_file TEXT, total INTEGER NOT NULL,
    completed INTEGER NOT NULL, failed INTEGER NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
    metadata TEXT NOT NULL, problems TEXT NOT NULL
) STRICT;
CREATE INDEX batches_by_age ON batches (created_at, id);
CREATE INDEX batches_by_status ON batches (status);
CREATE TABLE lines (
    batch TEXT NOT NULL, number INTEGER NOT NULL, id TEXT NOT NULL, custom_id TEXT, offset INTEGER NOT NULL,
    length INTEGER NOT NULL, seed INTEGER NOT NULL, state INTEGER NOT NULL, answer TEXT, bytes INTEGER NOT NULL,
    stored INTEGER NOT NULL, PRIMARY KEY (batch, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX lines_by_state ON lines (batch, state, number);
CREATE UNIQUE INDEX lines_by_custom_id ON lines (batch, custom_id);
"""


class Database:
    """A connection for all threads: short transactions under a lock, written through to disk before they return.

    Raises `ServiceError` where another server uses the folder, or the file is of a newer Headrace or no database.
    """

    def __init__(self, folder: Path) -> None:
        self._guard = _alone_in(folder)
        self._lock = threading.RLock()
        path = folder / "batches.sqlite3"
        try:
            self._connection = _connected(path)
        except sqlite3.DatabaseError as error:
            self._guard.close()
            raise ServiceError(f"{str(path)!r} cannot be used: {error}", "Choose another data folder") from None
        except ServiceError:
            self._guard.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing, and on disk when the block is left."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.rollback()
                raise
            self._connection.commit()

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """What a query finds."""
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    def row(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Row | None:
        """The first that a query finds."""
        with self._lock:
            found: sqlite3.Row | None = self._connection.execute(statement, values).fetchone()
            return found

    def close(self) -> None:
        """Ends the connection and lets another server have the folder."""
        with self._lock:
            self._connection.close()
            self._guard.close()


def insert(connection: sqlite3.Connection, table: str, record: object) -> None:
    """A dataclass as a row of `table`, whose columns are named as its fields."""
    values = vars(record)
    places = ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})", list(values.values()))


def check_free(folder: Path) -> None:
    """Raises `ServiceError` where another server uses the folder, or it cannot be written."""
    _alone_in(folder).close()


def _alone_in(folder: Path) -> IO[str]:
    """Keeps a second server out: the system drops the lock with the process, however that ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        guard = (folder / "lock").open("a")
    except OSError as error:
        problem = f"the data folder {str(folder)!r} cannot be written: {error.strerror or error}"
        raise ServiceError(problem, "Choose another with --data") from None
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        guard.close()
        remedy = "Give each server a data folder of its own"
        raise ServiceError(f"another server uses the data folder {str(folder)!r}", remedy) from None
    return guard


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        problem = f"{str(path)!r} was written by a newer Headrace (version {version} of its tables, here {VERSION})"
        raise ServiceError(problem, "Update Headrace, or choose another data folder")
    if version == 0:
        connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
    return connection
