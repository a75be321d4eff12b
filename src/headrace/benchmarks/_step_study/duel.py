"""Fewer steps against cheaper ones at equal cost: over which part of the range which of the two is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.benchmarks._step_study.curve import Curve, Floats

_PLACES = 401  # costs in the common range, evenly spaced in their logarithm
_ENDS = (2.5, 97.5)  # percentiles


@dataclass(frozen=True, eq=False)
class Duel:
    """Of cheaper steps against fewer ones, over the costs at which both exist.

    Attributes:
        low, high: the ends of these costs.
        costs: [G] places in between, evenly spaced in their logarithm.
        difference: [G] quality of cheaper steps minus that of fewer ones.
        wins: share of the places where cheaper steps are better, beyond what the pictures' number leaves open (the 95%
            interval of the difference over resampled pictures is above 0); of a figure without resamples: better.
        loses: share where they are worse, in the same sense.
    """

    low: float
    high: float
    costs: Floats
    difference: Floats
    wins: float
    loses: float

    @property
    def undecided(self) -> float:
        """The rest."""
        return max(0.0, 1.0 - self.wins - self.loses)

    @property
    def ahead(self) -> float:
        """Share of the places where the difference is positive, whatever its interval."""
        return float((self.difference > 0).mean())

    @property
    def verdict(self) -> str:
        """`cheaper steps`, `fewer steps` or `neither`: which of the two wins over the larger part, if one does."""
        if self.wins == self.loses or max(self.wins, self.loses) < self.undecided:
            return "neither"
        return "cheaper steps" if self.wins > self.loses else "fewer steps"


def duel(fewer: Curve, cheaper: Sequence[Curve]) -> Duel | None:
    """`fewer` is plain sampling at several numbers of steps; of several ways to cheaper steps the best one counts.

    Between two numbers of steps quality is interpolated, linear in the logarithm of the cost. None where the costs
    of the two have no range in common. With several ways, the best of them is chosen by the very figures that are
    compared, which favours them: a difference within the noise should be read against one way alone.
    """
    if not cheaper:
        return None
    low = max(fewer.range[0], min(one.range[0] for one in cheaper))
    high = min(fewer.range[1], max(one.range[1] for one in cheaper))
    if not low < high:
        return None
    costs: Floats = np.geomspace(low, high, _PLACES)
    costs[0], costs[-1] = low, high  # beyond rounding
    plain, plain_again = fewer.at(costs)
    found = [one.at(costs) for one in cheaper]
    covered = ~np.isnan([quality for quality, _ in found]).all(axis=0)
    difference = _best([quality for quality, _ in found])[covered] - plain[covered]
    again = _best([replicates for _, replicates in found])[:, covered] - plain_again[:, covered]
    below, above = np.percentile(again, _ENDS, axis=0) if len(again) else (difference, difference)
    wins, loses = float((below > 0).mean()), float((above < 0).mean())
    return Duel(low, high, costs[covered], difference, wins, loses)


def _best(qualities: Sequence[NDArray[np.float64]]) -> Floats:
    """The highest in each place, NaN counting for nothing."""
    found: Floats = np.fmax.reduce(np.stack(qualities), axis=0)
    return found
