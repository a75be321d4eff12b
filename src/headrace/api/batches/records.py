"""What the database knows of files, batches and their lines. Times are whole seconds since 1970."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import IntEnum

RUNNING = ("validating", "in_progress", "finalizing", "cancelling")
OVER = ("completed", "failed", "expired", "cancelled")


class LineState(IntEnum):
    """What became of a line; a line leaves WAITING once and for good."""

    WAITING = 0
    ANSWERED = 1
    FAILED = 2


@dataclass(frozen=True)
class FileRecord:
    """A file of JSON lines.

    Attributes:
        kind: "input" lies on disk; "output" and "errors" are written out of a batch's lines when somebody reads them.
        batch: that an output belongs to.
    """

    id: str
    kind: str
    filename: str
    bytes: int
    created_at: int
    expires_at: int
    batch: str | None = None


@dataclass(frozen=True)
class BatchRecord:
    """A batch.

    Attributes:
        model: that it was submitted to, and waits for where another one is served.
        base_url: what links to its pictures begin with.
        metadata, problems: JSON.
    """

    id: str
    endpoint: str
    input_file: str
    status: str
    completion_window: str
    model: str
    base_url: str
    created_at: int
    expires_at: int
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    output_file: str | None = None
    error_file: str | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    metadata: str = "null"
    problems: str = "[]"


@dataclass(frozen=True)
class LineRecord:
    """One line of a batch.

    Attributes:
        number: of the line in its file, from 1.
        id: nobody guesses it; names of its pictures begin with it.
        offset, length: where it stands in the input file, bytes.
        seed: for a line that gives none, so that it makes the same pictures when it is begun again.
        answer: JSON of the line in the output, pictures by name; None while it waits.
        bytes: of that line with its pictures written out.
        stored: bytes of its pictures on disk.
    """

    batch: str
    number: int
    id: str
    custom_id: str | None
    offset: int
    length: int
    seed: int
    state: int = LineState.WAITING
    answer: str | None = None
    bytes: int = 0
    stored: int = 0


def new_id(prefix: str) -> str:
    """An identifier that nobody guesses: 128 random bits behind `prefix`."""
    return prefix + secrets.token_hex(16)
