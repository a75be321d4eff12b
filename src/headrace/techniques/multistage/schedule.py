"""The stages of denoising: which decoder evaluates which row, by the row's noise level.

Zhang et al., Improving Efficiency of Diffusion Models via Multi-Stage Framework and Tailored Multi-Decoder
Architectures. The time line [0, 1] of the variance-preserving kernel is cut into intervals. A noise level of any other
kernel belongs to the time with its signal-to-noise ratio (the paper's footnote 4), so the same stages serve every
process and every solver.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headrace.errors import PlanError
from headrace.plan import Plan

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Section 5: beta(t) = beta_min + beta_d t, as Song et al. (2021) and Karras et al. (2022) have it.
BETA_MIN = 0.1
BETA_D = 19.9


def sigma_of(time: ArrayLike) -> Floats:
    """sigma_t of the kernel N(s_t x_0, s_t^2 sigma_t^2): the noise for one unit of data, at times t >= 0.

    sigma_t^2 = exp(beta_d t^2 / 2 + beta_min t) - 1 and s_t^2 = 1 / (1 + sigma_t^2), so that variance is preserved.
    The variance-exploding kernel has s_t = 1, so there this is the sigma with the same signal-to-noise ratio.
    """
    times = np.asarray(time, np.float64)
    noise: Floats = np.sqrt(np.expm1(BETA_D / 2 * times**2 + BETA_MIN * times))
    return noise


def time_of(sigma: ArrayLike) -> Floats:
    """The inverse of `sigma_of`: the time of a noise level, above 1 where the kernel ends before it, infinite too."""
    with np.errstate(over="ignore"):
        integral = np.log1p(np.asarray(sigma, np.float64) ** 2)
    times: Floats = (np.sqrt(BETA_MIN**2 + 2 * BETA_D * integral) - BETA_MIN) / BETA_D
    return times


@dataclass(frozen=True)
class Stages:
    """The times that cut [0, 1] into stages: N - 1 boundaries, increasing, for N stages; none for one.

    Stage 0 is nearest the image, N - 1 the noisiest; the intervals are [0, t_1), [t_1, t_2), ..., [t_(N-1), 1], and
    noise beyond time 1 belongs to the last. Raises `PlanError` for boundaries that are not between 0 and 1, or not
    increasing.
    """

    boundaries: tuple[float, ...] = ()

    def __init__(self, boundaries: Iterable[float] = ()) -> None:
        cuts = tuple(float(cut) for cut in boundaries)
        text = ", ".join(f"{cut:g}" for cut in cuts)
        for cut in cuts:
            if not 0 < cut < 1:  # NaN as well
                raise PlanError(
                    f"the boundary {cut:g} of the stages ({text}) is not between 0 and 1",
                    "Boundaries are times t of the variance-preserving kernel: 0 is the image, 1 is noise",
                )
        if any(later <= earlier for earlier, later in pairwise(cuts)):
            raise PlanError(f"the boundaries of the stages ({text}) do not increase", "Name the smallest time first")
        object.__setattr__(self, "boundaries", cuts)

    @classmethod
    def from_sigmas(cls, sigmas: Iterable[float]) -> Stages:
        """The stages whose boundaries are these noise levels of the variance-exploding kernel (EDM), smallest first.

        Raises `PlanError` as the constructor does: for levels that are not above 0 and below sigma_of(1) = 152.2.
        """
        levels = np.asarray(list(sigmas), np.float64)
        return cls(time_of(np.where(levels > 0, levels, np.nan)))

    @property
    def count(self) -> int:
        """N."""
        return len(self.boundaries) + 1

    @property
    def intervals(self) -> tuple[tuple[float, float], ...]:
        """(begin, end) of each stage in time, the nearest to the image first."""
        cuts = (0.0, *self.boundaries, 1.0)
        return tuple(pairwise(cuts))

    @property
    def sigmas(self) -> tuple[float, ...]:
        """The boundaries as sigmas of the variance-exploding kernel: equal signal-to-noise ratio (footnote 4)."""
        return tuple(sigma_of(self.boundaries).tolist())

    def at(self, time: ArrayLike) -> Ints:
        """The stage of each time, 0 to N - 1, in the shape of `time`."""
        found: Ints = np.searchsorted(np.asarray(self.boundaries), np.asarray(time, np.float64), side="right")
        return found

    def of_level(self, signal: ArrayLike, sigma: ArrayLike) -> Ints:
        """The stage of latents x = signal*x0 + sigma*noise, of any kernel; pure noise is of the last stage."""
        with np.errstate(divide="ignore"):
            return self.at(time_of(np.divide(np.asarray(sigma, np.float64), np.asarray(signal, np.float64))))


# Table 7, with Algorithm 2 on CIFAR-10; three stages are those of Algorithm 1 (table 4: 0.442 and 0.631).
PAPER = {
    1: Stages(),
    2: Stages((0.476,)),
    3: Stages((0.442, 0.630)),
    4: Stages((0.376, 0.526, 0.726)),
    5: Stages((0.376, 0.476, 0.626, 0.776)),
}


def stages_of(boundaries: Stages | Iterable[float]) -> Stages:
    """`boundaries` as `Stages`. Raises `PlanError` as `Stages` does."""
    return boundaries if isinstance(boundaries, Stages) else Stages(boundaries)


def assign(plan: Plan, boundaries: Stages | Iterable[float]) -> Plan:
    """The plan with `stage` filled, by the noise level of each row, whatever its solver.

    Raises `PlanError` for boundaries that are none, and for a plan of several stages whose solver tells no noise level.
    """
    stages = stages_of(boundaries)
    if stages.count == 1:
        return plan.with_columns(stage=0)
    unknown = np.flatnonzero(plan.signal + plan.sigma == 0)
    if unknown.size:
        raise PlanError(
            f"the noise level of row {unknown[0]} is not known, so neither is its stage",
            f"Use a solver with add_noise or scale_noise, where {plan.solver or 'the plan'} has none",
        )
    return plan.with_columns(stage=stages.of_level(plan.signal, plan.sigma))


def rows_per_stage(plan: Plan, boundaries: Stages | Iterable[float]) -> Ints:
    """[N] rows of the plan in each stage. Raises as `assign` does."""
    stages = stages_of(boundaries)
    return np.bincount(assign(plan, stages).stage, minlength=stages.count)


def interpolated(stages: Stages, reference: Stages, values: Sequence[float]) -> tuple[float, ...]:
    """Equation 23: what stages get where those of `reference` have `values` (parameters, widths), nearest first.

    Each stage gets the mean over its interval. Raises `PlanError` unless `reference` has as many stages as values.
    """
    if len(values) != reference.count:
        raise PlanError(
            f"{len(values)} values were given for the {reference.count} stages of reference", "Give one for each"
        )
    return tuple(
        sum(
            max(0.0, min(end, other_end) - max(begin, other_begin)) * value
            for (other_begin, other_end), value in zip(reference.intervals, values, strict=True)
        )
        / (end - begin)
        for begin, end in stages.intervals
    )
