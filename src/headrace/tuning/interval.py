"""Figures with 95% confidence intervals, from the pictures or the timings that they are means of."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

_RESAMPLES = 2000
_ENDS = (2.5, 97.5)  # percentiles
_Z = 1.959964  # of a standard normal variable, for 95%

Floats = NDArray[np.float64]


class Interval(BaseModel):
    """A figure and its 95% confidence interval."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    value: float = Field(description="of what was measured")
    low: float = Field(description="end of the interval")
    high: float = Field(description="end of the interval")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"{self.value} is not between {self.low} and {self.high}")
        return self

    @classmethod
    def exact(cls, value: float) -> Self:
        """Of what is known."""
        return cls(value=value, low=value, high=value)

    def inverse(self) -> Interval:
        """Of one over the figure, which must be positive."""
        return Interval(value=1 / self.value, low=1 / self.high, high=1 / self.low)

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def mean(values: ArrayLike, seed: int = 0) -> Interval:
    """Of the mean of N values, by the percentile bootstrap (Efron 1979).

    Zeros and ones take Wilson's interval (1927), which a few values that are all alike do not shrink to a point.
    """
    given: Floats = np.asarray(values, dtype=np.float64)
    if np.isin(given, (0.0, 1.0)).all():
        return _wilson(given)
    means = given[_resampled(len(given), seed)].mean(axis=1)
    return _between(float(given.mean()), means)


def difference(values: ArrayLike, others: ArrayLike, seed: int = 0) -> Interval:
    """Of the mean of N values less that of the others they are paired with, by the percentile bootstrap of pairs.

    Zeros and ones take the interval of Agresti and Min (2005), half a pair added to each cell of the table of pairs:
    so a few pairs that are all alike do not shrink it to a point.
    """
    own, theirs = np.asarray(values, dtype=np.float64), np.asarray(others, dtype=np.float64)
    changes: Floats = own - theirs
    if not np.isin([own, theirs], (0.0, 1.0)).all():
        return _between(float(changes.mean()), changes[_resampled(len(changes), seed)].mean(axis=1))
    gained, lost, count = np.sum(changes > 0) + 0.5, np.sum(changes < 0) + 0.5, len(changes) + 2
    middle = (gained - lost) / count
    half = _Z * np.sqrt(gained + lost - (gained - lost) ** 2 / count) / count
    value = float(changes.mean())
    return Interval(value=value, low=min(value, float(middle - half)), high=max(value, float(middle + half)))


def ratio(numerators: ArrayLike, denominators: ArrayLike, seed: int = 0) -> Interval:
    """Of the sum of N numerators over that of the denominators they belong to, by the percentile bootstrap of pairs."""
    above: Floats = np.asarray(numerators, dtype=np.float64)
    below: Floats = np.asarray(denominators, dtype=np.float64)
    chosen = _resampled(len(above), seed)
    return _between(float(above.sum() / below.sum()), above[chosen].sum(axis=1) / below[chosen].sum(axis=1))


def _wilson(values: Floats) -> Interval:
    count, share = len(values), float(values.mean())
    middle = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z / (1 + _Z**2 / count) * float(np.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2)))
    return Interval(value=share, low=min(share, max(0.0, middle - half)), high=max(share, min(1.0, middle + half)))


def _resampled(count: int, seed: int) -> NDArray[np.int64]:
    """[resamples, count] indices, drawn with replacement."""
    return np.random.default_rng(seed).integers(count, size=(_RESAMPLES, count))


def _between(value: float, resampled: Floats) -> Interval:
    low, high = np.percentile(resampled, _ENDS)
    return Interval(value=value, low=min(value, float(low)), high=max(value, float(high)))
