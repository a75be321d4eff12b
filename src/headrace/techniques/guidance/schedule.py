"""Which rows of a plan are guided: a row that is not evaluates the conditional branch alone, half the work.

Every function takes guidance away from rows and gives it to none, so they compose in any order. A value that a row
reuses must have been computed with as many branches: fill `guidance` before `compute` (see `Plan.check_reuse`).
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from headrace.errors import PlanError
from headrace.plan import Plan


def cut_off(plan: Plan, share: float) -> Plan:
    """Guidance in the first `round(share * R)` of R rows only, as PostDiff drops it after a share m of the steps.

    1 leaves the plan as it is, 0 guides no row. Raises `PlanError` for a share outside [0, 1].
    """
    return interval(plan, 0.0, share)


def interval(plan: Plan, start: float, end: float) -> Plan:
    """Guidance only in rows `round(start * R)` to `round(end * R)` of R, the last left out.

    Kynkaanniemi et al. (2024), "Applying Guidance in a Limited Interval", choose an interval of noise levels sigma.
    Here it is one of rows, which means the same noise levels only as long as solver and steps stay: `plan.timestep`
    says what the network is told in each row, and the first and last row within an interval of sigma give `start` and
    `end`. Raises `PlanError` for shares outside [0, 1], or in the wrong order.
    """
    for name, share in (("start", start), ("end", end)):
        if not 0 <= share <= 1:  # NaN as well
            raise PlanError(f"guidance is to {name} at {share} of the rows", "Give a share of the rows, 0 to 1")
    if start > end:
        raise PlanError(f"guidance is to start at {start} of the rows and end at {end}", "Give the start first")
    rows = np.arange(len(plan))
    return _unguided(plan, (rows < round(start * len(plan))) | (rows >= round(end * len(plan))))


def skip(plan: Plan, rows: Collection[int]) -> Plan:
    """No guidance in these rows, counted from 0. Raises `PlanError` for one that the plan does not have."""
    chosen: NDArray[np.bool_] = np.zeros(len(plan), dtype=np.bool_)
    for row in rows:
        if not 0 <= row < len(plan):
            raise PlanError(f"guidance is to be skipped in row {row}", f"The plan's rows are 0 to {len(plan) - 1}")
        chosen[row] = True
    return _unguided(plan, chosen)


def _unguided(plan: Plan, chosen: NDArray[np.bool_]) -> Plan:
    """The plan itself where none of the chosen rows is guided."""
    if not (plan.guidance[chosen] != 1.0).any():
        return plan
    return plan.with_columns(guidance=np.where(chosen, 1.0, plan.guidance))
