"""Step-level continuous batching: requests join and leave at any round."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch

from headrace.engine.acceleration import load_acceleration
from headrace.engine.decoding import Pixels, decode, execution_error, not_finite
from headrace.engine.health import broken
from headrace.engine.planner import Planner
from headrace.engine.pool import cache_bytes, pool_of
from headrace.engine.result import Progress, Result, RoundReport
from headrace.engine.rounds import Rounds
from headrace.engine.settings import EngineSettings
from headrace.engine.slot import Job, Slot
from headrace.engine.timings import Timings
from headrace.errors import HeadraceError
from headrace.models.conditioning import Conditioning
from headrace.models.pipelines.base import Pipeline
from headrace.models.pipelines.loading import load
from headrace.plan.plan import Plan
from headrace.request import Request


class Engine:
    """Executes the plan rows of many requests as few network calls.

    `submit`, `step` and `collect` are the interface that a server drives; `generate` runs a list to its end.
    An engine is driven by one thread.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        settings: EngineSettings | None = None,
        decide: Callable[[Plan], Plan] | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        """`decide` fills decision columns of the plans that the engine makes; what it raises, `submit` raises.

        `defaults` are fields that a request takes over where it was made without them.
        """
        self.pipeline = pipeline
        self.settings = settings or EngineSettings()
        self.timings = Timings(pipeline.device, self.settings.synchronize_timings)
        self._planner = Planner(pipeline, decide)
        self._defaults = dict(defaults or {})
        self._rounds = Rounds(pipeline, self.settings, self.timings)
        self._pool = pool_of(pipeline, self.settings)
        self._waiting: OrderedDict[int, Job] = OrderedDict()
        self._results: list[Result] = []
        self._numbers = count()

    @classmethod
    def from_pretrained(
        cls,
        path_or_name: str | Path,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        slots: int = 32,
        acceleration: str | Path | None = None,
    ) -> Engine:
        """An engine on a local diffusers folder or an embedded model.

        `acceleration` is a file of `headrace tune` or `headrace calibrate blocks`: its techniques are attached, and a
        request that names no solver or steps takes the file's. Raises `ModelError` as `load` does, `ArtefactError` for
        a file that cannot be used or was made for another model.
        """
        found = None if acceleration is None else load_acceleration(acceleration)
        pipeline = load(path_or_name, device=device, dtype=dtype)
        if found is None:
            return cls(pipeline, EngineSettings(slots=slots))
        return cls(pipeline, EngineSettings(slots=slots), found.attach(pipeline), found.defaults)

    def plan(self, request: Request) -> Plan:
        """The plan of plain sampling that `submit` would use. Raises `RequestError` and `SolverError`."""
        request = self._filled(request)
        self.pipeline.check(request)
        return self._planner.plan(request)

    def _filled(self, request: Request) -> Request:
        missing = {name: value for name, value in self._defaults.items() if name not in request.model_fields_set}
        return request.model_copy(update=missing) if missing else request

    def submit(self, request: Request, plan: Plan | None = None) -> int:
        """Queues a request and returns its ticket. `plan` replaces the plain one.

        Raises `RequestError` (this model cannot serve it), `CapacityError` (it can never fit), `SolverError` or
        `PlanError`, all before any work is done.
        """
        job = self._job(request, plan)
        self._waiting[job.number] = job
        return job.number

    def _job(self, request: Request, plan: Plan | None = None) -> Job:
        request = self._filled(request)
        self.pipeline.check(request)
        planned = self._planner.plan(request) if plan is None else plan
        self._planner.check(planned)
        shape = self.pipeline.latent_shape(*self.pipeline.size(request))
        sizes = self._planner.sizes(planned, shape)
        job = Job(next(self._numbers), request, planned, shape, sizes, cache_bytes(self.pipeline, sizes, planned))
        self._pool.check(job)
        return job

    def cancel(self, number: int) -> bool:
        """Drops a waiting or resident request: no row runs again, no result appears. False where it is neither."""
        if self._waiting.pop(number, None) is not None:
            return True
        for slot in self._pool.resident:
            if slot.job.number == number:
                self._pool.release(slot.index, slot.job)
                return True
        return False

    @property
    def busy(self) -> bool:
        """Whether anything waits or is resident."""
        return bool(self._waiting) or len(self._pool) > 0

    @property
    def resident(self) -> list[int]:
        """Tickets of the requests in slots, in the order of admission."""
        return [slot.job.number for slot in self._pool.resident]

    @torch.inference_mode()
    def step(self, only: Collection[int] | None = None) -> RoundReport:
        """One round: admits what fits, moves residents (`only` these tickets) one row on, decodes the finished."""
        with self.timings.measure("total"):
            self._admit()
            earlier = self._rounds.health.take()
            running = [slot for slot in self._pool.resident if only is None or slot.job.number in only]
            advance = self._rounds.advance(running)
            failures = advance.failures + [(slot, not_finite(slot)) for slot in broken(earlier)]
            for slot, error in failures:
                self._finish(slot, error)
            finished = self._decode([slot for slot in self._pool.resident if slot.done])
        return RoundReport(
            advance.rows, advance.network_rows, advance.calls, finished, len(self._waiting), len(self._pool)
        )

    def collect(self) -> list[Result]:
        """What finished or failed since the last call, in that order."""
        results, self._results = self._results, []
        return results

    def generate(self, requests: Sequence[Request], progress: Callable[[Progress], None] | None = None) -> list[Result]:
        """The results of all requests, in their order. A bad one raises before any work; later failures stay alone."""
        jobs = [self._job(request) for request in requests]
        rows_total = sum(len(job.plan) for job in jobs)
        tickets = [job.number for job in jobs]
        self._waiting.update(zip(tickets, jobs, strict=True))
        done: dict[int, Result] = {}
        others: list[Result] = []
        rows_done = 0
        while len(done) < len(tickets):
            rows_done += self.step().rows
            for result in self.collect():
                if result.number in range(tickets[0], tickets[-1] + 1):
                    done[result.number] = result
                else:
                    others.append(result)
            if progress is not None:
                progress(Progress(len(done), len(tickets), min(rows_done, rows_total), rows_total))
        self._results.extend(others)
        return [done[ticket] for ticket in tickets]

    def _admit(self) -> None:
        reserved: list[tuple[int, Job]] = []
        while self._waiting:
            job = next(iter(self._waiting.values()))
            index = self._pool.reserve(job)
            if index is None:
                break  # first come, first served: a large request is not overtaken by small ones
            reserved.append((index, self._waiting.pop(job.number)))
        outcomes = self._encode([job for _, job in reserved])
        for (index, job), outcome in zip(reserved, outcomes, strict=True):
            if isinstance(outcome, HeadraceError):
                self._pool.release(index, job)
                self._results.append(self._result(job, error=outcome))
            else:
                self._pool.place(Slot(index, job, self._of_sizes(job, outcome), self.pipeline.device))

    def _encode(self, jobs: Sequence[Job]) -> list[Conditioning | HeadraceError]:
        """Conditioning of each job, or the error that encoding it alone raises."""
        if not jobs:
            return []
        try:
            with self.timings.measure("encode"):
                return list(self.pipeline.encode([job.request for job in jobs]))
        except Exception as error:
            if len(jobs) == 1:
                return [execution_error("text encoder", error)]
            return [outcome for job in jobs for outcome in self._encode([job])]

    def _of_sizes(self, job: Job, conditioning: Conditioning) -> Mapping[float, Conditioning]:
        """Scale -> what the network is told at it: at small rows what a request of that size would tell."""
        return {
            scale: conditioning if scale == 1.0 else conditioning.told(self.pipeline.size_conditions(shape))
            for scale, shape in job.sizes.items()
        }

    def _decode(self, slots: Sequence[Slot]) -> int:
        if not slots:
            return 0
        with self.timings.measure("decode"):
            outcomes = decode(self.pipeline, slots, self.settings.decode_batch)
        for slot, outcome in outcomes:
            self._finish(slot, outcome)
        return len(slots)

    def _finish(self, slot: Slot, outcome: Pixels | HeadraceError) -> None:
        if not self._pool.holds(slot):
            return  # cancelled, or failed already
        self._pool.release(slot.index, slot.job)
        if isinstance(outcome, HeadraceError):
            self._results.append(self._result(slot.job, error=outcome))
        else:
            self._results.append(self._result(slot.job, pixels=outcome))

    def _result(self, job: Job, pixels: Pixels | None = None, error: HeadraceError | None = None) -> Result:
        return Result(job.number, job.request, job.plan, self._planner.settings(job.request, job.plan), pixels, error)
