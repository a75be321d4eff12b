"""The kernel (Inception) distance: maximum mean discrepancy with a cubic kernel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.errors import DataError


def squared_mmd(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> float:
    """The unbiased estimate of MMD^2 between rows [n, D] and [m, D] (Gretton et al. 2012, Lemma 6).

    Kernel (x.y / D + 1)^3, as in Binkowski et al. (2018). Unbiased, so it can fall below zero.
    """
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    return _mean_off_diagonal(_kernel(x, x)) + _mean_off_diagonal(_kernel(y, y)) - 2.0 * float(_kernel(x, y).mean())


def kernel_distance(
    first: npt.NDArray[np.floating],
    second: npt.NDArray[np.floating],
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
) -> tuple[float, float | None]:
    """(mean, standard deviation) of `squared_mmd` over random subsets of both, drawn without replacement.

    Subsets are no larger than the smaller set. Where that is both of them whole, they are compared once, and there is
    no deviation. Raises `DataError` below two rows.
    """
    size = min(subset_size, len(first), len(second))
    if size < 2:
        raise DataError(f"a kernel distance between subsets of {size} is asked for", "Give at least 2 pictures")
    if size == len(first) == len(second):
        return squared_mmd(first, second), None
    random = np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        ours = np.sort(random.choice(len(first), size, replace=False))
        theirs = np.sort(random.choice(len(second), size, replace=False))
        values.append(squared_mmd(first[ours], second[theirs]))
    return float(np.mean(values)), float(np.std(values))


def _kernel(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    cubed: npt.NDArray[np.float64] = (x @ y.T / x.shape[1] + 1.0) ** 3
    return cubed


def _mean_off_diagonal(kernel: npt.NDArray[np.float64]) -> float:
    rows = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (rows * (rows - 1)))
