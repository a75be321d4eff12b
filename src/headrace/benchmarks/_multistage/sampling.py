"""How many evaluations of a sampling are in each stage, for the two samplings that the paper measures."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from diffusers import DDPMScheduler, EDMEulerScheduler

from headrace.models import solvers
from headrace.plan.trace import trace
from headrace.techniques.multistage.schedule import Stages, rows_per_stage

DPM, EDM = "DPM-Solver, 20 NFE", "EDM Heun, 35 NFE"
SOLVER, STEPS = "dpm++2m", 20
# The paper's averages over these samplings (tables 1 and 2), in GMAC.
PAPER_AVERAGE = {DPM: 18.65, EDM: 19.25}
_EDM_STEPS = 18


def linear_schedule() -> DDPMScheduler:
    """DDPM's, which is the paper's kernel in a thousand steps."""
    return DDPMScheduler(beta_start=1e-4, beta_end=0.02)


def rows_by_sampling(stages: Stages) -> Mapping[str, tuple[int, ...]]:
    """Evaluations in each stage, the nearest to the image first.

    EDM's 18 noise levels are those of diffusers' solver. Heun's method, which diffusers lacks for EDM, evaluates the
    first of them once and every other twice: as the end of a step and as the beginning of the next.
    """
    dpm = trace(solvers.build(SOLVER, linear_schedule().config), STEPS)
    edm = trace(EDMEulerScheduler(), _EDM_STEPS)
    levels = np.concatenate([edm.sigma[:1], np.repeat(edm.sigma[1:], 2)])
    of_edm = np.bincount(stages.of_level(np.ones_like(levels), levels), minlength=stages.count)
    return {DPM: tuple(rows_per_stage(dpm, stages).tolist()), EDM: tuple(of_edm.tolist())}
