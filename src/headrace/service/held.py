"""A wish from its submission until it is over, as the supervisor keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.service.service import Listener
from headrace.service.wish import Wish

_OVERHEAD = 4096  # bytes of a wish besides its texts


@dataclass
class Held:
    """One wish.

    Attributes:
        submitted, deadline: monotonic seconds.
        rows: of its plan; expected ones until it was `accepted`.
        cost: of one of its rows, in rows of the default size with both guidance branches.
        slots: that it takes.
        expected: when it should be done, as it was forecast when it came.
        row: rows that were done, at most, in any process.
        snapshot: the newest one, after `saved` rows.
        previews: how many were shown.
        started: when it first got a slot.
        attempts: processes that had it.
        sent: whether the present process has it; `resident`: in a slot; `planned`: checked there; `order`: among
            all that were sent.
        cancelled: nobody wants it any more.
    """

    ticket: str
    wish: Wish
    listen: Listener
    submitted: float
    deadline: float | None
    rows: int
    cost: float
    slots: int = 1
    expected: float = 0.0
    accepted: bool = False
    row: int = 0
    snapshot: bytes | None = None
    saved: int = 0
    previews: int = 0
    started: float | None = None
    attempts: int = 0
    sent: bool = False
    planned: bool = False
    resident: bool = False
    order: int = 0
    cancelled: bool = False

    @property
    def nbytes(self) -> int:
        """What it takes in memory, about."""
        request = self.wish.request
        texts = len(request.prompt or "") + len(request.negative_prompt or "")
        return _OVERHEAD + 4 * texts + len(self.snapshot or b"")

    @property
    def rows_left(self) -> int:
        """Rows that are still to be evaluated."""
        return max(0, self.rows - self.row)

    def out(self) -> None:
        """The process that had it is gone, or has dropped it. What was done since the snapshot is lost."""
        self.sent = self.planned = self.resident = False
        self.row = self.saved
