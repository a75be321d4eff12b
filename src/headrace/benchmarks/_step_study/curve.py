"""Quality against cost of one family, a point for every number of steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headrace.errors import DataError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curve:
    """K points, cheapest first.

    Attributes:
        costs: [K] positive: operations or seconds of a picture.
        qualities: [K], the higher the better.
        replicates: [R, K] qualities of R resamples of the pictures, the same resamples in every curve that this one is
            set against; R may be 0 where a figure has no such resamples.

    Raises `DataError` for shapes that do not fit, no points, or costs that are not positive.
    """

    costs: Floats
    qualities: Floats
    replicates: Floats

    @classmethod
    def of(cls, costs: ArrayLike, qualities: ArrayLike, replicates: ArrayLike | None = None) -> Curve:
        """Of points in any order."""
        found: Floats = np.asarray(costs, dtype=np.float64)
        order = np.argsort(found, kind="stable")
        again = np.zeros((0, len(found))) if replicates is None else np.asarray(replicates, dtype=np.float64)
        if found.ndim != 1 or len(found) == 0 or np.shape(qualities) != found.shape or again.shape[1:] != found.shape:
            raise DataError(
                f"a curve of costs {found.shape} has qualities {np.shape(qualities)} and replicates {again.shape}",
                "Give one of each for every point",
            )
        if not np.isfinite(found).all() or not (found > 0).all():
            raise DataError(f"a cost is {found.min()}", "Costs are positive")
        return cls(found[order], np.asarray(qualities, dtype=np.float64)[order], again[:, order])

    @property
    def range(self) -> tuple[float, float]:
        """The lowest cost and the highest."""
        return float(self.costs[0]), float(self.costs[-1])

    def at(self, costs: Floats) -> tuple[Floats, Floats]:
        """Qualities [G] and replicates [R, G] at costs [G], linear in their logarithm between points; NaN outside."""
        places, wanted = np.log(self.costs), np.log(costs)
        quality = np.interp(wanted, places, self.qualities, left=np.nan, right=np.nan)
        again = [np.interp(wanted, places, one, left=np.nan, right=np.nan) for one in self.replicates]
        return quality, np.array(again).reshape(len(again), len(costs))
