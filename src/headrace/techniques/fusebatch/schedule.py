"""Timestep-fusion scheduling (TFS): how many images share an evaluation of the network, row by row.

FuseBatch, sections 3.3 and 4.2: few evaluations matter much to a picture's details, so those take a small fusion factor
K and the others a large one. A row at K costs 1/K of one that is not fused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from headrace.errors import PlanError
from headrace.plan import Plan

Order = Literal["time", "interval"]

_EXACT = 1e-6
# Intervals that differ by less than this share of the longest are equal: timesteps are rounded to float32.
_SAME_INTERVAL = 1e-4
_FORMS = 'Write "tfs", one K such as "4", shares such as "4:0.5,2:0.25,1:0.25", or a cost such as "cost:0.4"'


def _check_factor(fusion: object) -> None:
    if not isinstance(fusion, int | np.integer) or isinstance(fusion, bool) or fusion < 1:
        raise PlanError(f"the fusion factor K is {fusion!r}", "K is how many images share an evaluation: 1 or more")


@dataclass(frozen=True)
class Allocation:
    """Which share of a plan's rows is evaluated at which K: pairs (K, share), K from large to small.

    Pairs may be given in any order; those with share 0 are left out. Raises `PlanError` for a K that is no whole number
    of at least 1 or appears twice, a share outside [0, 1], or shares that do not sum to 1.
    """

    shares: tuple[tuple[int, float], ...]

    def __init__(self, shares: Mapping[int, float] | Iterable[tuple[int, float]]) -> None:
        pairs = list(shares.items() if isinstance(shares, Mapping) else (tuple(pair) for pair in shares))
        for fusion, share in pairs:
            _check_factor(fusion)
            if not 0 <= share <= 1:  # NaN as well
                raise PlanError(f"K={fusion} has the share {share} of the rows", "Give each K a share from 0 to 1")
        factors = [fusion for fusion, _ in pairs]
        if len(set(factors)) != len(factors):
            raise PlanError(f"a K appears twice in {factors}", "Give each K one share")
        total = math.fsum(share for _, share in pairs)
        if abs(total - 1) > _EXACT:
            text = ", ".join(f"K={fusion}: {share:g}" for fusion, share in pairs) or "none"
            raise PlanError(f"the shares of the rows ({text}) sum to {total:g}, not 1", "Every row has exactly one K")
        kept = sorted(((int(fusion), float(share)) for fusion, share in pairs if share > 0), reverse=True)
        object.__setattr__(self, "shares", tuple(kept))

    @property
    def factors(self) -> tuple[int, ...]:
        """The K's that rows get, from large to small."""
        return tuple(fusion for fusion, _ in self.shares)

    @property
    def cost(self) -> float:
        """Evaluations for each image and row: the sum of share / K (the paper's footnote 2); 1 is plain sampling."""
        return math.fsum(share / fusion for fusion, share in self.shares)

    def counts(self, rows: int) -> dict[int, int]:
        """K -> how many of so many rows: its share of them, rounded up or down, by the largest remainder.

        Where remainders are equal, the smaller K has the row.
        """
        exact = {fusion: share * rows for fusion, share in self.shares}
        counts = {fusion: math.floor(wanted + _EXACT) for fusion, wanted in exact.items()}
        missing = rows - sum(counts.values())
        by_remainder = sorted(exact, key=lambda fusion: (round(counts[fusion] - exact[fusion], 9), fusion))
        for fusion in by_remainder[:missing]:
            counts[fusion] += 1
        return counts


# Section 4.1: half of the rows at K=4, a quarter at K=2, a quarter at K=1. It costs 0.5 (footnote 2).
PAPER = Allocation({4: 0.5, 2: 0.25, 1: 0.25})


def uniform(fusion: int) -> Allocation:
    """Every row at one K. Raises `PlanError` for one below 1."""
    return Allocation({fusion: 1.0})


def halving(factors: Collection[int]) -> Allocation:
    """The paper's allocation for these K's: half of the rows at the largest, half of the rest at the next, and so on.

    The two smallest have equal shares, so for 1, 2 and 4 it is `PAPER`. Raises `PlanError` for none, or one below 1.
    """
    ordered = _checked_factors(factors)
    halves = [0.5 ** (place + 1) for place in range(len(ordered) - 1)]
    return Allocation(zip(ordered, [*halves, 1 - math.fsum(halves)], strict=True))


def for_cost(target: float, factors: Collection[int]) -> Allocation:
    """The allocation with this cost: the paper's for these K's, moved towards its smallest or its largest K.

    A cost of 0.5 with 1, 2 and 4 is `PAPER`. Raises `PlanError` where no allocation of these K's costs so little or so
    much: costs lie between 1 over the largest and 1 over the smallest.
    """
    ordered = _checked_factors(factors)
    least, most = 1 / ordered[0], 1 / ordered[-1]
    if not least - _EXACT <= target <= most + _EXACT:  # NaN as well
        raise PlanError(
            f"a cost of {target:g} cannot be reached with K = {_listed(ordered)}",
            f"Ask for {least:g} to {most:g} evaluations for each image and row",
        )
    base = halving(ordered)
    end = ordered[-1] if target >= base.cost else ordered[0]
    span = 1 / end - base.cost
    moved = 0.0 if abs(span) < _EXACT else min(max((target - base.cost) / span, 0.0), 1.0)
    shares = {fusion: (1 - moved) * share for fusion, share in base.shares}
    shares[end] += moved
    return Allocation(shares)


def parse(text: str, factors: Collection[int]) -> Allocation:
    """An allocation as a user writes it, for a model that has networks for `factors`.

    "tfs": the paper's; "4": every row at K=4; "4:0.5,2:0.25,1:0.25": shares; "cost:0.4": `for_cost`. Raises `PlanError`
    for anything else, for a K that is not among the factors, and for "tfs" where there is but one.
    """
    factors = _checked_factors(factors)
    asked = text.strip().lower()
    if asked == "tfs":
        if len(factors) == 1:
            raise PlanError(
                f"the model has a network for K={factors[0]} alone, so there is nothing to schedule",
                "Put networks of several K into one folder: headrace fuse",
            )
        return halving(factors)
    if asked.startswith("cost:"):
        return for_cost(_number(asked.removeprefix("cost:"), text), factors)
    if re.fullmatch(r"\d{1,9}", asked):
        allocation = uniform(int(asked))
    else:
        allocation = Allocation(_pair(part, text) for part in asked.split(","))
    check_factors(allocation, factors)
    return allocation


def _pair(part: str, text: str) -> tuple[int, float]:
    fusion, colon, share = part.partition(":")
    if not colon or not re.fullmatch(r"\d{1,9}", fusion.strip()):
        raise PlanError(f"{text!r} is no allocation of fusion factors", _FORMS)
    return int(fusion), _number(share, text)


def _number(part: str, text: str) -> float:
    try:
        return float(part)
    except ValueError:
        raise PlanError(f"{text!r} is no allocation of fusion factors: {part!r} is no number", _FORMS) from None


def check_factors(allocation: Allocation, factors: Collection[int]) -> None:
    """Raises `PlanError` where the allocation names a K that no network is for."""
    missing = [fusion for fusion in allocation.factors if fusion not in factors]
    if missing:
        raise PlanError(
            f"rows are to be evaluated at K={missing[0]}, and there are networks for K = {_listed(sorted(factors))}",
            "Name these, or train a network for the other",
        )


def fuse(plan: Plan, allocation: Allocation, order: Order | None = None) -> Plan:
    """The plan with `fusion` filled, each K in its share of the rows, rounded up or down.

    `order` "time" has the largest K first, for solvers whose early rows are the coarse ones (DDPM, DDIM); "interval"
    has it where the step to the next timestep is the shortest (flow matching, section 4.2), the earlier row first among
    equals. None is what the paper does for the plan's solver.
    """
    counts = allocation.counts(len(plan))
    factors = np.repeat(list(counts), list(counts.values()))
    fusion = np.empty(len(plan), np.int64)
    by_interval = order == "interval" or (order is None and plan.solver.startswith("FlowMatch"))
    fusion[_by_interval(plan) if by_interval else np.arange(len(plan))] = factors
    return plan.with_columns(fusion=fusion)


def effective_cost(plan: Plan) -> float:
    """Evaluations for each image and row as the plan has them: the mean of 1/K."""
    return float(np.mean(1 / plan.fusion))


def intervals(plan: Plan) -> NDArray[np.float64]:
    """[R] from each row's noise level to that of the next row at another one, or to 0 behind the last.

    The level is sigma where the plan knows it, the timestep elsewhere. A solver that evaluates a level twice (Heun)
    has the same interval for both rows.
    """
    levels = plan.sigma if plan.sigma.any() else plan.timestep
    lengths = np.empty(len(plan))
    for row, level in enumerate(levels):
        later = levels[row + 1 :]
        others = later[later != level]
        lengths[row] = abs(level - (others[0] if others.size else 0.0))
    return lengths


def _by_interval(plan: Plan) -> NDArray[np.int64]:
    """Rows from the shortest interval to the longest, in their order where intervals are equal."""
    lengths = intervals(plan)
    longest = lengths.max() or 1.0
    return np.argsort(np.round(lengths / longest / _SAME_INTERVAL), kind="stable")


def _checked_factors(factors: Collection[int]) -> tuple[int, ...]:
    """Each K once, from large to small."""
    for fusion in factors:
        _check_factor(fusion)
    if not factors:
        raise PlanError("no fusion factor K was given", "Name the K's that there are networks for")
    return tuple(sorted({int(fusion) for fusion in factors}, reverse=True))


def _listed(factors: Collection[int]) -> str:
    return ", ".join(str(fusion) for fusion in factors)
