"""The stages that lead from each state of a schedule to the next, listed once for all latencies."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Level:
    """Every transition out of the states with so many rows left, sorted by state.

    A state is (rows left, decodings left, skips left) and a stage (rows, decodings, skipped), both flattened on
    [U + 1, V + 1, S + 1]. A budget above the rows that are left counts as those rows.
    """

    states: Indices
    starts: Indices  # of each state's transitions
    stages: Indices
    costs: Indices  # where a transition's cost stands in [decodings left, stage]
    next_states: Indices


class Transitions:
    """All of them for up to U rows, V decodings and S skips: 207,360 for 16 x 8 x 8.

    Every stage has a row: without one its UNet latency would be 0, so that the next stage began at the same moment and
    neither would feel the other.
    """

    def __init__(self, rows: int, decodings: int, skips: int) -> None:
        self.shape = (rows + 1, decodings + 1, skips + 1)
        self.levels = [_level(left, self.shape) for left in range(1, rows + 1)]

    def flat(self, rows: int, decodings: int, skips: int) -> int:
        """Index of a state or stage."""
        return (rows * self.shape[1] + decodings) * self.shape[2] + skips

    def unflat(self, index: int) -> tuple[int, int, int]:
        """What `flat` was made of."""
        rest, skips = divmod(index, self.shape[2])
        return *divmod(rest, self.shape[1]), skips

    def of(self, rows: int, decodings: int, skips: int) -> tuple[Indices, Indices]:
        """Stages that may come next in a state, and the states that they lead to."""
        level = self.levels[rows - 1]
        first = decodings * (min(self.shape[2] - 1, rows) + 1) + skips
        end = level.starts[first + 1] if first + 1 < len(level.starts) else len(level.stages)
        chosen = slice(level.starts[first], end)
        return level.stages[chosen], level.next_states[chosen]

    def least(self, costs: Floats) -> Floats:
        """Least sum of costs from every state to the end; infinite where it cannot be reached.

        `costs` is [decodings left, stage].
        """
        found = np.full(math.prod(self.shape), np.inf)
        found[0] = 0.0
        flat = np.ascontiguousarray(costs).ravel()
        longest = max(len(level.stages) for level in self.levels)
        sums, rest = np.empty(longest), np.empty(longest)  # one pair for all levels: fresh memory is what costs most
        for level in self.levels:
            length = len(level.stages)
            np.take(flat, level.costs, out=sums[:length], mode="clip")
            np.take(found, level.next_states, out=rest[:length], mode="clip")
            sums[:length] += rest[:length]
            found[level.states] = np.minimum.reduceat(sums[:length], level.starts)
        return found


@lru_cache(maxsize=4)
def transitions(rows: int, decodings: int, skips: int) -> Transitions:
    """Kept, since they depend on no latency: some 20 ms to list and 5 MB for 16 x 8 x 8."""
    return Transitions(rows, decodings, skips)


def _level(rows: int, shape: tuple[int, int, int]) -> Level:
    v, s, x, y, z = _axes(rows, shape)
    valid = (y <= v) & (z <= np.minimum(s, x))
    v, s, x, y, z = (np.broadcast_to(axis, valid.shape)[valid].astype(np.intp) for axis in (v, s, x, y, z))
    left = rows - x
    state = (rows * shape[1] + v) * shape[2] + s
    states, starts = np.unique(state, return_index=True)
    stages = (x * shape[1] + y) * shape[2] + z
    return Level(
        states,
        starts,
        stages,
        v * math.prod(shape) + stages,
        (left * shape[1] + v - y) * shape[2] + np.minimum(s - z, left),
    )


def _axes(rows: int, shape: tuple[int, int, int]) -> Iterator[NDArray[np.int_]]:
    """Decodings and skips left, then a stage's rows, decodings and skips, one an axis."""
    lengths = [range(shape[1]), range(min(shape[2] - 1, rows) + 1), range(1, rows + 1), range(shape[1])]
    lengths.append(range(min(shape[2] - 1, rows) + 1))
    return iter(np.ix_(*lengths))
