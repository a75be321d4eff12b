"""Mixed-resolution denoising: the first rows of a trajectory evaluated on smaller latents.

After "Fewer Denoising Steps or Cheaper Per-Step Inference: Towards Compute-Optimal Diffusion Model Deployment"
(PostDiff): early rows settle the layout, the low frequencies, which a smaller picture holds as well. The paper's design
constants are s = 0.5 (`share`) and beta = 0.5 (`scale`); its appendix B varies beta, appendix D chooses s on a small
calibration set, appendix F trains a network for it.
"""

from __future__ import annotations

import math

import numpy as np

from headrace.errors import PlanError, SolverError
from headrace.plan.column import COLUMNS
from headrace.plan.crossing import Crossing
from headrace.plan.plan import Plan
from headrace.plan.trace import restarted

SHARE, SCALE = 0.5, 0.5
_LATEST = 2  # rows later that a solver may begin anew: the longest step has three evaluations


def mixed_resolution(
    plan: Plan, share: float = SHARE, scale: float = SCALE, crossing: Crossing = Crossing.FRESH_NOISE
) -> Plan:
    """`plan` with its first round(share * rows) rows at `scale` of the final size and the others at full size.

    `share` is s of the paper, in [0, 1], and `scale` its beta, in (0, 1] (column `scale`: at least 1/64 of a side). At
    the change the solver begins anew with empty history; where it cannot (within a step of Heun's kind), the change
    comes a row or two later. With s = 1 no row has full size and the finished latents are resized. With s = 0 or
    beta = 1 the plan itself is returned. `crossing`: how latents come to full size.

    Raises `PlanError` for a share or scale out of range and for a plan that changes its scale already, `SolverError`
    for a solver that cannot begin anew in its middle (PNDM).
    """
    _check(plan, share, scale)
    small = round(share * len(plan))
    if small == 0 or scale == 1.0:
        return plan
    if small < len(plan):
        small, plan = _begun_anew(plan, small)
    rows = np.arange(len(plan))
    return plan.with_columns(scale=np.where(rows < small, scale, 1.0), crossing=np.where(rows == small, crossing, 0))


def _check(plan: Plan, share: float, scale: float) -> None:
    if not (math.isfinite(share) and 0 <= share <= 1):
        raise PlanError(f"s, the share of rows at low resolution, is {share}", "Give a share from 0 to 1; 0.5 is usual")
    lowest = COLUMNS["scale"].low
    if not (math.isfinite(scale) and lowest <= scale <= 1):
        raise PlanError(
            f"beta, the scale of rows at low resolution, is {scale}",
            f"Give a scale from {lowest:g} to 1; 0.5 is usual",
        )
    if (plan.scale != 1).any():
        raise PlanError("the plan has rows at low resolution already", "Apply mixed resolution once")


def _begun_anew(plan: Plan, row: int) -> tuple[int, Plan]:
    """The plan restarted at `row`, or at the first of the rows behind it where its solver can begin."""
    refused: SolverError | None = None
    for later in range(row, min(row + _LATEST + 1, len(plan))):
        try:
            return later, restarted(plan, later)
        except SolverError as error:
            refused = refused or error
    assert refused is not None
    raise refused
