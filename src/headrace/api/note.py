"""What is known of one HTTP request while it is answered: for its line in the log and for the metrics."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from starlette.types import Scope

_KEY = "headrace.note"
_SANE = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


@dataclass
class Note:
    """Of one request.

    Attributes:
        request_id: the caller's X-Request-ID where it is 1 to 100 of A-Z, a-z, 0-9 and "_.:-"; drawn otherwise.
        code: of the error that it was answered with.
        fields: for the log: tickets, user, what was asked for.
    """

    request_id: str
    begun: float = field(default_factory=perf_counter)
    status: int = 0
    code: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def elapsed_ms(self) -> float:
        """Since it came."""
        return 1000 * (perf_counter() - self.begun)


def begin_note(scope: Scope) -> Note:
    """Starts the note of a request."""
    given = header(scope, b"x-request-id")
    note = Note(given if _SANE.fullmatch(given) else f"req_{secrets.token_hex(12)}")
    scope[_KEY] = note
    return note


def note_of(scope: Scope) -> Note:
    """The note that was begun of it."""
    note: Note = scope[_KEY]
    return note


def header(scope: Scope, name: bytes) -> str:
    """A header's value, the first; empty where it is missing."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")
