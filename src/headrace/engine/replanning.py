"""Whether a request that is under way may go on with another plan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from headrace.engine.coefficients import coefficients
from headrace.engine.slot import Job
from headrace.errors import PlanError
from headrace.plan.column import COLUMNS
from headrace.plan.plan import Plan


def replanned(job: Job, plan: Plan, done: int, cache_bytes: int) -> Job:
    """The job with `plan` in place of its own from row `done` on; `cache_bytes` are those of the new plan.

    What was reserved for the job stays, so a plan must not need more. Raises `PlanError` where rows before `done`
    differ, and where rows from there on need other sizes, more registers or more kept block values.
    """
    old = job.plan
    if plan.solver != old.solver or plan.init_noise_sigma != old.init_noise_sigma:
        raise PlanError(
            f"the new plan is of {plan.solver or 'no named solver'} from sigma {plan.init_noise_sigma:g}, and the "
            f"request began with {old.solver or 'no named solver'} from {old.init_noise_sigma:g}",
            "Change the decision columns of the request's own plan",
        )
    for name in (*COLUMNS, "keep"):
        before, after = getattr(old, name)[:done], getattr(plan, name)[:done]
        if not np.array_equal(before, after):
            raise PlanError(
                f"the new plan differs in column {name} before row {done}, and those rows are done",
                "Change rows from the current one on, of the request's own plan",
            )
    if not done < len(plan):
        raise PlanError(
            f"row {done} is the next one and the new plan has {len(plan)} rows", "Rows that are done cannot be dropped"
        )
    if not set(plan.scale.tolist()) <= set(job.sizes):
        raise PlanError("the new plan has rows of other sizes", "Keep the column scale as it was when submitted")
    if coefficients(plan).history != coefficients(old).history:
        raise PlanError("the new plan keeps another number of registers", "Keep the solver's columns as they are")
    if cache_bytes > job.cache_bytes:
        raise PlanError(
            f"the new plan keeps {cache_bytes} bytes of block values and {job.cache_bytes} were reserved",
            "Keep the column compute as it was when submitted",
        )
    return replace(job, plan=plan)
