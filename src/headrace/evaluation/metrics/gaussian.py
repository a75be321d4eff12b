"""A Gaussian fitted to features in one pass, and the Frechet distance of two."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.errors import DataError

Array = npt.NDArray[np.float64]


class Gaussian:
    """Mean and covariance of rows that are seen once, in float64, whatever their number.

    `mean` is [D]; `scatter` is [D, D], the sum of outer products of the deviations from the mean. Batches are merged
    as in Chan, Golub and LeVeque (1983), which stays accurate where the mean is large beside the deviations.
    """

    def __init__(self, dimension: int) -> None:
        self.count = 0
        self.mean: Array = np.zeros(dimension)
        self.scatter: Array = np.zeros((dimension, dimension))

    @classmethod
    def of(cls, rows: npt.NDArray[np.floating], chunk: int = 4096) -> Gaussian:
        """Fitted to rows [N, D], which are read in chunks (they may lie on disk)."""
        fitted = cls(rows.shape[1])
        for start in range(0, len(rows), chunk):
            fitted.update(rows[start : start + chunk])
        return fitted

    @property
    def dimension(self) -> int:
        """D."""
        return len(self.mean)

    def update(self, rows: npt.NDArray[np.floating]) -> None:
        """Takes rows [n, D] in. Raises `DataError` where they are not finite."""
        values = np.asarray(rows, dtype=np.float64)
        if len(values) == 0:
            return
        if not np.isfinite(values).all():
            raise DataError("a feature is NaN or infinite", "Check the weights of the extractor, and its dtype")
        mean = values.mean(axis=0)
        deviations = values - mean
        self._merge(len(values), mean, deviations.T @ deviations)

    def merge(self, other: Gaussian) -> None:
        """Takes in what another one has seen."""
        if other.count:
            self._merge(other.count, other.mean, other.scatter)

    def _merge(self, count: int, mean: Array, scatter: Array) -> None:
        total = self.count + count
        shift = mean - self.mean
        self.scatter = self.scatter + scatter + np.outer(shift, shift) * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total

    @property
    def covariance(self) -> Array:
        """The unbiased estimate, [D, D]. Raises `DataError` with fewer than two rows."""
        if self.count < 2:
            raise DataError(f"a covariance of {self.count} picture(s) is asked for", "Give at least 2 pictures")
        return self.scatter / (self.count - 1)


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), the squared Frechet distance (Dowson and Landau 1982).

    With Inception features it is the FID of Heusel et al. (2017). With C = L L^T, the last trace is the sum of the
    singular values of L1^T L2, so no root of a product that is not symmetric is taken. Singular covariances (fewer
    pictures than dimensions) need no regularisation: nothing is added to any diagonal, and eigenvalues below zero,
    which are rounding errors, count as zero. Raises `DataError` for different dimensions or fewer than two rows.
    """
    if first.dimension != second.dimension:
        raise DataError(
            f"features of {first.dimension} and {second.dimension} dimensions cannot be compared",
            "Use one extractor for both sets",
        )
    left, right = _factor(first.covariance), _factor(second.covariance)
    shared = np.linalg.svd(left.T @ right, compute_uv=False).sum()
    shift = first.mean - second.mean
    spread = np.trace(first.covariance) + np.trace(second.covariance)
    return max(0.0, float(shift @ shift + spread - 2.0 * shared))


def _factor(covariance: Array) -> Array:
    """L with L L^T = covariance, from its eigenvectors."""
    values, vectors = np.linalg.eigh(covariance)
    factor: Array = vectors * np.sqrt(values.clip(min=0.0))
    return factor
