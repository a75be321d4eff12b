"""From requests to jobs: defaults filled in, planned, checked against model and memory, before any work is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import count

from headrace.engine.acceleration import Decisions
from headrace.engine.coefficients import coefficients
from headrace.engine.planner import Planner
from headrace.engine.pool import Pool, cache_bytes
from headrace.engine.replanning import replanned
from headrace.engine.slot import Job, Slot
from headrace.engine.snapshot import Snapshot, check_snapshot
from headrace.errors import RequestError
from headrace.models.pipelines.base import Pipeline
from headrace.plan.plan import Plan
from headrace.request import Request


class Intake:
    """Plans and checks the requests of one engine. For any thread.

    `named` are the accelerations that requests may ask for; `otherwise` is for those that ask for none.
    """

    def __init__(self, pipeline: Pipeline, pool: Pool, otherwise: Decisions, named: Mapping[str, Decisions]) -> None:
        self._pipeline = pipeline
        self._pool = pool
        self._decisions: dict[str | None, Decisions] = {None: otherwise} | dict(named)
        self._planners = {name: Planner(pipeline, one.decide) for name, one in self._decisions.items()}
        self._numbers = count()

    @property
    def named(self) -> tuple[str, ...]:
        """The accelerations that requests may ask for."""
        return tuple(name for name in self._decisions if name is not None)

    def plan(self, request: Request, acceleration: str | None = None) -> Plan:
        """The plan of a request. Raises `RequestError` and `SolverError`."""
        request = self._filled(request, acceleration)
        self._pipeline.check(request)
        return self._planners[acceleration].plan(request)

    def prepare(self, request: Request, plan: Plan | None, acceleration: str | None = None) -> Job:
        """A job with a ticket of its own; `plan` replaces the request's."""
        request = self._filled(request, acceleration)
        self._pipeline.check(request)
        planned = self._planners[acceleration].plan(request) if plan is None else plan
        return self._job(Job(next(self._numbers), request, planned, (0, 0, 0), {}, acceleration=acceleration))

    def resumed(self, request: Request, snapshot: Snapshot, acceleration: str | None = None) -> Job:
        """A job that goes on from a snapshot. Raises `PlanError` where that is none of this request's."""
        job = self.prepare(request, snapshot.plan, acceleration)
        check_snapshot(snapshot, job, coefficients(job.plan).history)
        return replace(job, snapshot=snapshot)

    def replanned(self, place: Job | Slot, plan: Plan) -> Job:
        """The job that waits, or has a slot, with another plan. Raises as `Engine.replan`."""
        if isinstance(place, Job) and place.snapshot is None:
            return self._job(replace(place, plan=plan))
        job, row = (place, place.row) if isinstance(place, Job) else (place.job, place.row)
        self._check(plan)
        return replanned(job, plan, row, cache_bytes(self._pipeline, job.sizes, plan))

    def settings(self, job: Job) -> Mapping[str, object]:
        """What a job came to, as in `Result.settings`."""
        settings = self._planners[None].settings(job.request, job.plan)
        return settings if job.acceleration is None else {**settings, "acceleration": job.acceleration}

    def _check(self, plan: Plan) -> None:
        self._planners[None].check(plan)

    def _job(self, job: Job) -> Job:
        """The job with what follows from its request and its plan."""
        self._check(job.plan)
        shape = self._pipeline.latent_shape(*self._pipeline.size(job.request))
        sizes = self._planners[None].sizes(job.plan, shape)
        kept = cache_bytes(self._pipeline, sizes, job.plan)
        job = replace(job, shape=shape, sizes=sizes, cache_bytes=kept)
        self._pool.check(job)
        return job

    def _filled(self, request: Request, acceleration: str | None) -> Request:
        if acceleration not in self._decisions:
            known = ", ".join(self.named) or "none"
            raise RequestError(
                "acceleration", f"there is no acceleration {acceleration!r} here", f"Name one of: {known}; or none"
            )
        defaults = self._decisions[acceleration].defaults
        missing = {name: value for name, value in defaults.items() if name not in request.model_fields_set}
        return request.model_copy(update=missing) if missing else request
