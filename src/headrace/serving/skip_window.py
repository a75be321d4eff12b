"""When a row may leave out its unconditional branch: the measured curve behind the quality threshold tau."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from headrace.errors import ServingError
from headrace.serving.state import Task


@dataclass(frozen=True)
class SkipWindow:
    """Similarity of the final picture against where skipping began and how many rows were skipped (figure 9).

    Attributes:
        starts: progress (row / rows) of the first skipped row, increasing, [S].
        shares: rows skipped from there on as shares of all rows, increasing, above 0, [K].
        similarity: of the final picture to the one without skips, 0 to 1, [S][K].
    """

    starts: Sequence[float]
    shares: Sequence[float]
    similarity: Sequence[Sequence[float]]

    def __post_init__(self) -> None:
        for name, values in (("starts", self.starts), ("shares", self.shares)):
            if not values or not all(0 <= value <= 1 for value in values) or any(a >= b for a, b in pairwise(values)):
                raise ServingError(f"{name} of the skip window are {list(values)}", "Give increasing shares, 0 to 1")
        if self.shares[0] == 0:
            raise ServingError("the skip window was measured at a share of 0", "Leave it out: it is similar by nature")
        if len(self.similarity) != len(self.starts) or any(len(row) != len(self.shares) for row in self.similarity):
            raise ServingError("the similarities do not fit starts and shares", "Give a row a start, a number a share")
        if not all(0 <= value <= 1 for row in self.similarity for value in row):
            raise ServingError("a similarity is outside 0 to 1", "Give similarities from 0 to 1")

    def allows(self, task: Task, tau: float) -> bool:
        """Whether the task's next row may leave out its unconditional branch.

        It may where the row has one, and the picture would stay at least `tau` similar with one skipped row more than
        there are so far.
        """
        if not task.guided or task.row >= task.rows:
            return False
        start = task.row / task.rows if task.first_skip is None else task.first_skip
        return self.expected(start, (task.skips + 1) / task.rows) >= tau

    def begin(self, tau: float) -> float:
        """The progress at which to begin skipping, so that the most rows can be skipped in all: the window's bound.

        Every skipped row is judged by where skipping began. Begun early, few rows use up what `tau` allows, so the
        bound is late; tau is rounded up to hundredths. 1 where nothing is allowed.
        """
        hundredths = math.ceil(100 * tau - 1e-9)
        found = self._begins.get(hundredths)
        if found is None:
            found = self._begins[hundredths] = self._most_skipped(hundredths / 100)
        return found

    @cached_property
    def _begins(self) -> dict[int, float]:
        return {}

    def _most_skipped(self, tau: float) -> float:
        starts = [step / 50 for step in range(50)]
        allowed = [self._allowed(start, tau) for start in starts]
        most = max(allowed)
        return max(start for start, share in zip(starts, allowed, strict=True) if share == most) if most else 1.0

    def _allowed(self, start: float, tau: float) -> float:
        """The share up to which skipping may go on; no more rows are left than come after the start."""
        shares = [step / 100 for step in range(1, round(100 * (1 - start)) + 1)]
        return next(
            (shares[i] - 0.01 for i, share in enumerate(shares) if self.expected(start, share) < tau), 1 - start
        )

    def expected(self, start: float, share: float) -> float:
        """Similarity, interpolated linearly; 1 at a share of 0.

        Where nothing was measured it is the worst that can be: 0 before the first start and beyond the largest share.
        From the last start on, that start's holds.
        """
        if share <= 0:
            return 1.0
        if start < self.starts[0] or share > self.shares[-1]:
            return 0.0
        row = bisect_right(self.starts, start) - 1
        here = self._at(row, share)
        if row + 1 == len(self.starts):
            return here
        weight = (start - self.starts[row]) / (self.starts[row + 1] - self.starts[row])
        return here + weight * (self._at(row + 1, share) - here)

    def _at(self, row: int, share: float) -> float:
        column = bisect_right(self.shares, share) - 1
        if column + 1 == len(self.shares):
            return self.similarity[row][-1]
        left, before = (0.0, 1.0) if column < 0 else (self.shares[column], self.similarity[row][column])
        weight = (share - left) / (self.shares[column + 1] - left)
        return before + weight * (self.similarity[row][column + 1] - before)
