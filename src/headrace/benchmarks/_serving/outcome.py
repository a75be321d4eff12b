"""What became of one request of a load."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

DONE = "done"  # all its pictures came
REFUSED = "refused"  # 429: too busy, by the server's own word
DEADLINE = "deadline"  # 408, or an error event of that name: it cannot, or could not, be there in time
INVALID = "invalid"  # another 4xx
SERVER = "server error"  # 5xx
FAILED = "failed"  # taken, and then an error event in place of the picture
UNREACHABLE = "unreachable"  # no connection, so it was never taken
LOST = "lost"  # sent, and never answered in full
KINDS = (DONE, REFUSED, DEADLINE, INVALID, SERVER, FAILED, UNREACHABLE, LOST)


@dataclass
class Outcome:
    """One request, as its sender saw it. Moments are seconds from the load's beginning.

    Attributes:
        at: when it should have been sent.
        asked: pictures that it asked for.
        patience_s: seconds after `at` in which they are of use; None where there is no hurry.
        sent: when it was.
        accepted: when the answer's status came; of a streamed one that is when it was taken.
        first_preview: when its first partial image came.
        done: when its last picture came.
        status: of HTTP.
        kind: one of `KINDS`.
        code: of the error, as the server names it; "" without one.
        message: of the error.
        previews: partial images that came.
        extra: pictures that came beyond those that were asked for: answered twice.
        pictures: base64 of each, where they are kept.
    """

    at: float
    asked: int
    patience_s: float | None = None
    sent: float | None = None
    accepted: float | None = None
    first_preview: float | None = None
    done: float | None = None
    status: int | None = None
    kind: str = LOST
    code: str = ""
    message: str = ""
    previews: int = 0
    extra: int = 0
    pictures: list[str] = field(default_factory=list)

    @property
    def latency_s(self) -> float | None:
        """From when it should have been sent, so that a sender that is kept waiting does not hide the wait."""
        return None if self.done is None else self.done - self.at

    @property
    def in_time(self) -> bool:
        """Whether its pictures came while they were of use."""
        return self.latency_s is not None and (self.patience_s is None or self.latency_s <= self.patience_s)

    def to_dict(self) -> dict[str, object]:
        """By name, as JSON values."""
        return asdict(self)


def kind_of(status: int, code: str) -> str:
    """Of an answer, or an event of a stream (then the status is a success), that is an error."""
    if status == 408 or code.startswith("deadline"):
        return DEADLINE
    if status == 429:
        return REFUSED
    if status < 300:
        return FAILED
    return SERVER if status >= 500 else INVALID
