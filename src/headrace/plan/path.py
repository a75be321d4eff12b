"""The way that latents take when every data prediction is the same: a consistent solver keeps to its noise levels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headrace.plan.plan import Plan

_WITHIN_A_STEP = 0.01  # relative difference of level; DDIM's timesteps, rounded, are off by 1e-3
TOLERANCE = 1e-3  # of the level; solvers that begin properly leave 1e-6 (some of diffusers' sigmas are float32)

Vector = NDArray[np.float64]


def path(plan: Plan, begin: int = 0, x: Vector | None = None) -> NDArray[np.float64]:
    """[R - begin + 1, 2 + R]: x of the rows from `begin` on and after the last, as weights of data, noise and draws.

    It starts from the data and noise of the row's level, or from `x`, with empty history.
    """
    data = np.zeros(2 + len(plan))
    data[0] = 1.0
    if x is None:
        x = plan.signal[begin] * data
        x[1] = plan.sigma[begin]
    places, registers = [x], list[Vector]()
    for row in range(begin, len(plan)):
        out = (data - plan.data_p[row] * x) / plan.data_q[row]
        registers.insert(0, plan.p[row] * x + plan.q[row] * out)
        x = plan.a[row] * x + plan.c[row] * out
        x = x + sum(weight * past for weight, past in zip(plan.b[row], registers, strict=False) if weight)
        x[2 + row] += plan.noise[row]
        places.append(x)
    return np.stack(places)


def true_levels(plan: Plan) -> Plan:
    """`plan` with the level of a row that lies within a step (of KDPM2), where the scheduler tells that of the step.

    Where such a level would be negative, the network predicts something else than its configuration says (MiniMax H3's
    flow runs the other way): then nothing is known of the levels, and all is zero.
    """
    if not (plan.data_q.all() and (plan.signal + plan.sigma).all()):
        return plan
    places = path(plan)[:-1]
    within = distance(places, np.stack([plan.signal, plan.sigma], axis=1)) > _WITHIN_A_STEP
    if not within.any():
        return plan
    signal, sigma = _levels(places).T
    if (signal[within] < 0).any():
        nothing = np.zeros(len(plan))
        return replace(plan, signal=nothing, sigma=nothing, data_p=nothing, data_q=nothing)
    return replace(plan, signal=np.where(within, signal, plan.signal), sigma=np.where(within, sigma, plan.sigma))


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
