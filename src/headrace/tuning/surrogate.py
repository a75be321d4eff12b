"""A guess at settings that were not measured, from those that were: which of them are worth a trial."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.tuning.pareto import Point
from headrace.tuning.settings import Settings
from headrace.tuning.space import Space

_RIDGE = 0.1  # trials' worth of belief that a value does what the others of its setting do


class Additive:
    """Log cost and quality as sums of what each setting's value contributes, by ridge regression.

    Techniques multiply what is left of the work, so their logarithms add up nearly; that qualities do is a guess which
    serves to rank. What it proposes is measured before it counts.
    """

    def __init__(self, space: Space, settings: Sequence[Settings], points: Sequence[Point]) -> None:
        self._columns = [(name, value) for name, choices in space.values.items() for value in choices]
        inputs = self._inputs(settings)
        costs, qualities = np.array(points, dtype=np.float64).T
        targets = np.column_stack([np.log(costs), qualities])
        self._means = targets.mean(axis=0)
        self._centre = inputs.mean(axis=0)
        centred = inputs - self._centre
        normal = centred.T @ centred + _RIDGE * np.eye(len(self._columns))
        self._weights = np.linalg.solve(normal, centred.T @ (targets - self._means))

    def predict(self, settings: Sequence[Settings]) -> list[Point]:
        """Expected cost and quality of each."""
        expected = (self._inputs(settings) - self._centre) @ self._weights + self._means
        return [(float(np.exp(log_cost)), float(quality)) for log_cost, quality in expected]

    def _inputs(self, settings: Sequence[Settings]) -> NDArray[np.float64]:
        """[N, D]: a column a value of a setting, 1 where it is the settings' own."""
        return np.array([[getattr(one, name) == value for name, value in self._columns] for one in settings], float)
