"""The way that latents take when every data prediction is the same: a consistent solver keeps to its noise levels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headrace.plan.plan import Plan

TOLERANCE = 1e-3  # of the level; solvers that begin properly leave 1e-6 (some of diffusers' sigmas are float32)

Vector = NDArray[np.float64]


def path(plan: Plan, begin: int = 0, x: Vector | None = None) -> NDArray[np.float64]:
    """[R - begin + 1, 2 + R]: x of the rows from `begin` on and after the last, as weights of data, noise and draws.

    It starts from the data and noise of the row's level, or from `x`, with empty history.
    """
    size = 2 + len(plan)
    data = np.eye(size)[0]
    x = plan.signal[begin] * data + plan.sigma[begin] * np.eye(size)[1] if x is None else x
    places, registers = [x], list[Vector]()
    for row in range(begin, len(plan)):
        out = (data - plan.data_p[row] * x) / plan.data_q[row]
        registers.insert(0, plan.p[row] * x + plan.q[row] * out)
        x = plan.a[row] * x + plan.c[row] * out
        x = x + sum(weight * past for weight, past in zip(plan.b[row], registers, strict=False) if weight)
        x[2 + row] += plan.noise[row]
        places.append(x)
    return np.stack(places)


def same_path(plan: Plan, other: Plan, begin: int) -> bool:
    """Whether `other`, from row `begin` on and from where `plan` is then, goes through the levels of `plan`."""
    expected = path(plan)[begin:]
    places = path(other, begin, expected[0])
    return bool((distance(places, expected) <= TOLERANCE).all())


def distance(places: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative difference of the levels (weight of the data, deviation of the noise) of each place."""
    own, wanted = _levels(places), _levels(expected)
    difference: NDArray[np.float64] = np.abs(own - wanted).max(axis=1) / np.linalg.norm(wanted, axis=1)
    return difference


def _levels(places: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([places[:, 0], np.linalg.norm(places[:, 1:], axis=1)], axis=1)
