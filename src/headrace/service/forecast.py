"""When pictures should be there: pure functions of what is asked for and of how fast rounds are."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from headrace.serving.latency_table import LatencyTable
from headrace.serving.state import Size


@dataclass(frozen=True)
class Work:
    """What is left of one wish.

    Attributes:
        rows: plan rows that are still to be evaluated.
        cost: of one of them, in rows of the default size with all its branches.
        slots: that it takes, at least 1.
        priority: larger is admitted first.
        resident: whether it has its slots already.
    """

    rows: int
    cost: float = 1.0
    slots: int = 1
    priority: int = 0
    resident: bool = False


@dataclass(frozen=True)
class Pace:
    """How long a round takes: seconds by its cost, increasing from (0, 0); linear in between and beyond the last.

    `picture_s` is what a finished picture adds (its decoding).
    """

    points: tuple[tuple[float, float], ...] = ((0.0, 0.0),)
    picture_s: float = 0.0

    @classmethod
    def of(cls, table: LatencyTable, size: Size) -> Pace:
        """What a latency table says of this size."""
        rows = sorted({count for entry in table.sizes for grid in entry.grids for count in grid.rows} | {1})
        seconds = accumulate((float(table.unet_s(size, count)) for count in rows), max)
        return cls(tuple(zip(map(float, rows), seconds, strict=True)), float(table.vae_s(size, 0, 1)))

    def round_s(self, cost: float) -> float:
        """Seconds of a round of this cost."""
        points = self.points
        if len(points) == 1:
            return points[0][1]
        index = next((i for i, (at, _) in enumerate(points) if at >= cost), len(points) - 1)
        (before, low), (after, high) = points[max(index, 1) - 1], points[max(index, 1)]
        return max(0.0, low + (high - low) * (cost - before) / (after - before))

    def times(self, factor: float) -> Pace:
        """The same, so many times as slow."""
        return Pace(tuple((cost, factor * seconds) for cost, seconds in self.points), factor * self.picture_s)


def finishes(works: Sequence[Work], slots: int, pace: Pace) -> list[float]:
    """Seconds until each of these is done, in their order.

    Every resident moves one row on in every round. Who waits is admitted by priority, then in order, as soon as there
    is room; the first one that does not fit holds the rest back. Where all have the same cost and one slot each, more
    work makes nobody earlier, but for decodings that change places. Whoever comes later is not foreseen, and makes
    rounds longer.
    """
    waiting = [index for index, work in enumerate(works) if not work.resident]
    waiting.sort(key=lambda index: -works[index].priority)
    waiting.reverse()  # from the end
    inside = [(work.rows, index) for index, work in enumerate(works) if work.resident]
    heapq.heapify(inside)
    free = slots - sum(work.slots for work in works if work.resident)
    cost = sum(work.cost for work in works if work.resident and work.rows)
    now, rounds = 0.0, 0
    done = [0.0] * len(works)
    while inside or waiting:
        while waiting and (works[waiting[-1]].slots <= free or not inside):
            index = waiting.pop()
            free -= works[index].slots
            cost += works[index].cost if works[index].rows else 0.0
            heapq.heappush(inside, (rounds + works[index].rows, index))
        until, index = heapq.heappop(inside)
        if until > rounds:
            now += (until - rounds) * pace.round_s(cost)
            rounds = until
        now += pace.picture_s
        done[index] = now
        free += works[index].slots
        cost -= works[index].cost if works[index].rows else 0.0
    return done
