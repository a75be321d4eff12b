"""From a request to its plan: the solver traced, the guidance filled in, everything checked before any work is done."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from inspect import signature
from threading import Lock

import numpy as np

from headrace.errors import PlanError
from headrace.models import solvers
from headrace.models.pipelines.base import LatentShape, Pipeline
from headrace.plan.column import COLUMNS, SOLVER
from headrace.plan.crossing import check_crossings
from headrace.plan.plan import Plan
from headrace.plan.trace import trace
from headrace.request import Request

_KEPT_PLANS = 1024


class Planner:
    """Plans the requests of one pipeline. Equal settings share one plan."""

    def __init__(self, pipeline: Pipeline, decide: Callable[[Plan], Plan] | None = None) -> None:
        self._pipeline = pipeline
        self._decide = decide
        self._lock = Lock()
        self._plans: OrderedDict[tuple[str, int, float], Plan] = OrderedDict()

    def plan(self, request: Request) -> Plan:
        """The request's solver, steps and guidance scale as a plan, with what model and `decide` add: `SolverError`."""
        solver = request.solver or ""
        key = (solver.lower(), request.steps, self._pipeline.guidance(request))
        with self._lock:  # requests are planned by whoever submits them
            if key not in self._plans:
                self._plans[key] = self._trace(request)
                if len(self._plans) > _KEPT_PLANS:
                    self._plans.popitem(last=False)
            self._plans.move_to_end(key)
            return self._plans[key]

    def _trace(self, request: Request) -> Plan:
        own = self._pipeline.components.scheduler
        scheduler = own if request.solver is None else solvers.build(request.solver, own.config)
        # The pipelines of diffusers call every solver that knows eta with eta = 0 (TCD's own default is 0.3).
        options = {"eta": 0.0} if "eta" in signature(scheduler.step).parameters else {}
        plan = trace(scheduler, request.steps, step_options=options)
        plan = plan.with_columns(guidance=self._pipeline.guidance(request))
        plan = self._pipeline.own_decisions(plan)
        return plan if self._decide is None else self._decide(plan)

    def check(self, plan: Plan) -> None:
        """Raises `PlanError` where a plan holds decisions that this pipeline would not carry out."""
        self._check_fusion(plan)
        carried_out = {"guidance", "scale", "crossing", *self._pipeline.columns}
        for name, column in COLUMNS.items():
            if column.owner == SOLVER or name in carried_out:
                continue
            values: np.ndarray = getattr(plan, name)
            changed = np.flatnonzero((values != column.default).reshape(len(plan), -1).any(axis=1))
            if changed.size:
                raise PlanError(
                    f"row {changed[0]} of the plan sets {name} to {values[changed[0]]}, "
                    f"and {self._pipeline.name} as loaded carries out no {name} decisions",
                    f"Leave {name} at {column.default}, or load the model with the technique that fills it",
                )
        self._pipeline.check_plan(plan)
        plan.check_reuse()
        check_crossings(plan)
        if plan.blocks and self._pipeline.row_cache is not None:
            known = self._pipeline.row_cache.width
            if plan.blocks != known:
                raise PlanError(
                    f"the plan decides on {plan.blocks} blocks and the row cache of {self._pipeline.name} has {known}",
                    "Use a schedule that was made for these blocks",
                )
            self._pipeline.row_cache.check(plan)
        if (plan.guidance != 1).any() and not self._pipeline.guided:
            raise PlanError(
                f"the plan uses guidance and {self._pipeline.name} has no unconditional branch", "Set guidance to 1"
            )

    def _check_fusion(self, plan: Plan) -> None:
        factors, name = self._pipeline.fusion_factors, self._pipeline.name
        without = np.flatnonzero(~np.isin(plan.fusion, factors))
        if without.size:
            row = int(without[0])
            problem = f"row {row} of the plan sets fusion to K={plan.fusion[row]}"
            if self._pipeline.pictures > 1:
                raise PlanError(
                    f"{problem}, and {name} makes {self._pipeline.pictures} pictures of one latent: its autoencoder "
                    "fuses them, so K is the same in every row",
                    "Leave fusion at 1; for another K, load a model whose autoencoder was trained for it",
                )
            known = ", ".join(str(factor) for factor in factors)
            raise PlanError(f"{problem}, and {name} has networks for K = {known}", "Set fusion to one of these")
        if self._pipeline.row_cache is not None and (plan.fusion > 1).any():
            raise PlanError(
                f"the plan fuses rows and {name} was loaded with a cache of block values",
                "Values that K requests share belong to none of them: leave the cache or the fusion out",
            )

    def sizes(self, plan: Plan, shape: LatentShape) -> Mapping[float, LatentShape]:
        """Scale -> latent shape of every size that rows have, and of the finished latents. `PlanError` for no size."""
        scales = {1.0, *np.unique(plan.scale).tolist()}
        return {scale: self._pipeline.scaled_shape(shape, scale) for scale in scales}

    def settings(self, request: Request, plan: Plan) -> Mapping[str, object]:
        """What the request came to: solver, steps, guidance scale and size, with the model's defaults filled in.

        "unguided_rows" are the rows without guidance, counted from 0, where the plan has some with it.
        """
        height, width = self._pipeline.size(request)
        guided = plan.guidance != 1.0
        unguided = np.flatnonzero(~guided).tolist() if guided.any() else []
        return {
            "solver": request.solver or plan.solver,
            "steps": request.steps,
            "guidance_scale": self._pipeline.guidance_scale(request),
            "height": height,
            "width": width,
            "seed": request.seed,
            **({"unguided_rows": unguided} if unguided else {}),
        }
