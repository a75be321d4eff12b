"""Which replica would have a picture done first: pure, with time passed in."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from headrace.service.cluster.messages import Report
from headrace.service.model_card import ModelCard
from headrace.service.wish import Wish

STALE_S = 5.0  # without a report for so long, a replica gets no more orders
_HUGE = 1e9


@dataclass
class Standing:
    """What is known of one replica.

    Attributes:
        name: its id. `number`: a small one, its place in the live view.
        report: the last one; None before the first. `heard`: when that came, seconds on this process's clock.
        sent: rows of the orders that it was given and has not finished, by ticket.
        offset: of its clock, seconds to add to its times.
    """

    name: str
    number: int
    report: Report | None = None
    heard: float = 0.0
    sent: dict[str, float] = field(default_factory=dict)
    offset: float | None = None

    def takes(self, now: float) -> bool:
        """Whether it may be given orders. One whose engine is being replaced may: it keeps them meanwhile."""
        if self.report is None or now - self.heard > STALE_S:
            return False
        return self.report.status.state in ("ready", "restarting")

    @property
    def unreported(self) -> dict[str, float]:
        """Of `sent`, what its last report did not know of."""
        known = self.report.orders if self.report else frozenset[str]()
        return {ticket: rows for ticket, rows in self.sent.items() if ticket not in known}

    def heard_of(self, report: Report, now: float) -> None:
        """Takes in a report that came at `now`.

        The clocks' difference is at most what a message seems to have taken: the least of all is the best guess.
        """
        self.report, self.heard = report, now
        seems = now - report.clock
        self.offset = seems if self.offset is None else min(self.offset, seems)

    def clear_s(self, now: float, row_s: float) -> float:
        """Seconds until it should be done with all that it has, what was sent since the report counted at `row_s`."""
        if self.report is None:
            return _HUGE
        left = max(0.0, self.report.status.load.clear_s - (now - self.heard))
        return left + sum(self.unreported.values()) * (self.report.row_s or row_s)


def rows_of(wish: Wish, card: ModelCard) -> float:
    """Plan rows of a wish, in rows of the model's own size: what it costs before an engine has planned it."""
    height, width = card.default_size
    pixels = (wish.request.height or height) * (wish.request.width or width)
    return wish.request.steps * pixels / (height * width)


def row_seconds(standings: Iterable[Standing]) -> float:
    """Seconds a row: the mean of the replicas that have run any. A new replica is taken to be like the others."""
    known = [one.report.row_s for one in standings if one.report and one.report.row_s > 0]
    return sum(known) / len(known) if known else 0.0


def completion_s(standing: Standing, rows: float, now: float, row_s: float) -> float:
    """Seconds until a replica should have done `rows` more, after all that it has."""
    own = (standing.report.row_s if standing.report else 0.0) or row_s
    return standing.clear_s(now, row_s) + rows * own


def choose(
    standings: Iterable[Standing], rows: float, now: float, barred: Collection[str] = ()
) -> tuple[Standing, float] | None:
    """The replica that should be done with `rows` more first, and in how many seconds; None where none takes orders.

    Among equals (before anything ran, all are) the one with the fewest orders. A replica whose engine is being
    replaced comes after all others.
    """
    everyone = list(standings)
    row_s = row_seconds(everyone)
    taking = [one for one in everyone if one.takes(now) and one.name not in barred]
    if not taking:
        return None

    def key(one: Standing) -> tuple[bool, float, int, int]:
        ready = one.report is not None and one.report.status.state == "ready"
        return not ready, round(completion_s(one, rows, now, row_s), 3), len(one.sent), one.number

    best = min(taking, key=key)
    return best, completion_s(best, rows, now, row_s)
