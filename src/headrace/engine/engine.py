"""Step-level continuous batching: requests join and leave at any round."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch

from headrace.engine.acceleration import load_acceleration
from headrace.engine.decoder import Decoder
from headrace.engine.decoding import Outcome, Pixels, not_finite
from headrace.engine.encoding import encoder_of
from headrace.engine.health import broken
from headrace.engine.lanes import lane_of
from headrace.engine.moment import Moment
from headrace.engine.order import Order, Standing
from headrace.engine.planner import Planner
from headrace.engine.pool import cache_bytes, pool_of
from headrace.engine.replanning import replanned
from headrace.engine.result import Progress, Result, RoundReport
from headrace.engine.round_times import RoundTimes
from headrace.engine.rounds import Rounds
from headrace.engine.settings import EngineSettings
from headrace.engine.slot import Job, Slot
from headrace.engine.timings import Timings
from headrace.errors import HeadraceError, OrderError
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
        self._decoder = Decoder(pipeline, self.settings, self.timings, lane_of(pipeline.device, self.settings))
        self._encoder = encoder_of(pipeline, self.settings, self.timings)
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
        return self.enqueue(self.prepare(request, plan))

    def prepare(self, request: Request, plan: Plan | None = None) -> Job:
        """A request checked and planned, for `enqueue`; its ticket is `number`. For any thread. Raises as `submit`."""
        request = self._filled(request)
        self.pipeline.check(request)
        planned = self._planner.plan(request) if plan is None else plan
        return self._job(next(self._numbers), request, planned)

    def _job(self, number: int, request: Request, plan: Plan) -> Job:
        self._planner.check(plan)
        shape = self.pipeline.latent_shape(*self.pipeline.size(request))
        sizes = self._planner.sizes(plan, shape)
        job = Job(number, request, plan, shape, sizes, cache_bytes(self.pipeline, sizes, plan))
        self._pool.check(job)
        return job

    def enqueue(self, job: Job) -> int:
        """Queues what `prepare` made, and returns its ticket."""
        self._waiting[job.number] = job
        self._encoder.ahead([job])
        return job.number

    def replan(self, number: int, plan: Plan) -> None:
        """Has a waiting or denoising request go on with another plan, from its current row on.

        Raises `PlanError` where rows that are done differ or the plan needs more than was reserved for the request
        (`headrace.engine.replanning`), and `OrderError` where no such request has rows to come.
        """
        if number in self._waiting:
            self._waiting[number] = self._job(number, self._waiting[number].request, plan)
            return
        slot = self._slot(number)
        if slot is None or slot.done:
            raise OrderError(f"request {number} has no rows to come", "Replan while it waits or is denoised")
        self._planner.check(plan)
        kept = cache_bytes(self.pipeline, slot.job.sizes, plan)
        slot.replan(replanned(slot.job, plan, slot.row, kept))

    def cancel(self, number: int) -> bool:
        """Drops a waiting or resident request: no row runs again, no result appears. False where it is neither."""
        if self._waiting.pop(number, None) is not None:
            self._encoder.drop(number)
            return True
        slot = self._slot(number)
        if slot is not None:
            self._pool.release(slot.index, slot.job)
        return slot is not None

    @property
    def busy(self) -> bool:
        """Whether anything waits or is resident."""
        return bool(self._waiting) or len(self._pool) > 0

    @property
    def resident(self) -> list[int]:
        """Tickets of the requests in slots, in the order of admission."""
        return [slot.job.number for slot in self._pool.resident]

    @property
    def waiting(self) -> list[int]:
        """Tickets of the requests without a slot, in the order of their arrival, as in the two that follow."""
        return list(self._waiting)

    @property
    def denoising(self) -> list[int]:
        """Tickets of the requests in slots with rows to come."""
        return sorted(slot.job.number for slot in self._pool.resident if not slot.done)

    @property
    def decoding(self) -> list[int]:
        """Tickets of the requests in slots whose rows are done."""
        return sorted(slot.job.number for slot in self._pool.resident if slot.done)

    @property
    def in_flight(self) -> frozenset[int]:
        """Tickets among `decoding` whose chunk runs: an order must not name them."""
        return self._decoder.in_flight & frozenset(self.resident)

    def progress(self, number: int) -> Standing:
        """How far a request is. Raises `OrderError` where it neither waits nor has a slot."""
        job, slot = self._waiting.get(number), self._slot(number)
        if job is not None:
            return Standing(0, len(job.plan), bool(job.plan.guidance[0] != 1), 0, 0, self.pipeline.size(job.request))
        if slot is None:
            raise OrderError(f"request {number} neither waits nor has a slot", "It finished, failed or was cancelled")
        guided = not slot.done and bool(slot.table.guided[slot.row])
        decoding = slot.decoding
        done, chunks = (0, 0) if decoding is None else (decoding.done, len(decoding.chunks))
        return Standing(slot.row, len(slot.table), guided, done, chunks, self.pipeline.size(slot.job.request))

    def plan_of(self, number: int) -> Plan:
        """The plan that a waiting or resident request goes by. Raises `OrderError` where it is neither."""
        slot = self._slot(number)
        job = self._waiting.get(number) if slot is None else slot.job
        if job is None:
            raise OrderError(f"request {number} neither waits nor has a slot", "It finished, failed or was cancelled")
        return job.plan

    def _slot(self, number: int) -> Slot | None:
        return next((slot for slot in self._pool.resident if slot.job.number == number), None)

    @torch.inference_mode()
    def step(self, order: Order | None = None) -> RoundReport:
        """One round: admits, moves requests one row on, and decodings one chunk: what `order` says, else all that can.

        Rows and chunks run together as the lane allows. A round without rows lasts until a chunk is done. Raises
        `OrderError` before any work.
        """
        order = order or Order()
        finished: list[int] = []
        with self.timings.measure("total"):
            self._take_in(self._decoder.settle(), finished)
            self._check(order)
            admitted = self._admit(order.admit, finished)
            begun = Moment(self.pipeline.device)
            earlier = self._rounds.health.take()
            # What was denoised before runs beside the rows. A lane that runs nothing beside them has it wait, where it
            # may, for what the rows finish, to decode all in one call.
            beside = self._decodable(order) if self._decoder.lane.concurrent or order.decode is not None else []
            chunks = self._decoder.start(beside, order.chunks)
            with self._decoder.lane.beside_rows():
                advance = self._rounds.advance(self._movable(order))
            rows_done = Moment(self.pipeline.device) if advance.calls else None
            self._take_in(advance.failures + [(slot, not_finite(slot)) for slot in broken(earlier)], finished)
            if order.decode is None:
                after = [slot for slot in self._decodable(order) if all(slot is not one for one in beside)]
                chunks += self._decoder.start(after, order.chunks)
            self._settle_round(advance.calls > 0, finished)
        return RoundReport(
            advance.rows, advance.network_rows, advance.calls, len(finished), len(self._waiting), len(self._pool),
            sum(len(running.call.slots) for running in chunks), admitted, tuple(finished),
            RoundTimes(begun, rows_done, chunks),
        )  # fmt: skip

    def _check(self, order: Order) -> None:
        """Raises `OrderError` where a request cannot do what it is told now."""
        slots = {slot.job.number: slot for slot in self._pool.resident}
        admitted = self._waiting if order.admit is None else order.admit
        for number in order.rows or ():
            if number in self._waiting and number not in admitted:
                raise OrderError(f"a row of request {number} is ordered, which waits", "Admit it in this order")
            if number in slots and slots[number].done:
                raise OrderError(f"a row of request {number} is ordered, whose rows are done", "Order its decoding")
        for number in order.decode or ():
            if number in self._waiting or (number in slots and not slots[number].done):
                raise OrderError(f"a chunk of request {number} is ordered, which has rows left", "Order its rows first")
            if number in self._decoder.in_flight and number in slots:
                raise OrderError(f"a chunk of request {number} is ordered and another one runs", "Order it afterwards")

    def _movable(self, order: Order) -> list[Slot]:
        running = [slot for slot in self._pool.resident if not slot.done]
        return [slot for slot in running if order.rows is None or slot.job.number in order.rows]

    def _decodable(self, order: Order) -> list[Slot]:
        running = self._decoder.in_flight
        denoised = [slot for slot in self._pool.resident if slot.done and slot.job.number not in running]
        return [slot for slot in denoised if order.decode is None or slot.job.number in order.decode]

    def _settle_round(self, rows: bool, finished: list[int]) -> None:
        decoder = self._decoder
        with self.timings.measure("decode"):
            self._take_in(decoder.settle(wait=not rows) if decoder.lane.concurrent else decoder.settle_all(), finished)

    def _take_in(self, outcomes: Sequence[Outcome], finished: list[int]) -> None:
        for slot, outcome in outcomes:
            if self._finish(slot, outcome):
                finished.append(slot.job.number)

    def collect(self) -> list[Result]:
        """What finished or failed since the last call, in that order. Waits for nothing."""
        self._take_in(self._decoder.settle(), [])
        results, self._results = self._results, []
        return results

    def generate(self, requests: Sequence[Request], progress: Callable[[Progress], None] | None = None) -> list[Result]:
        """The results of all requests, in their order. A bad one raises before any work; later failures stay alone."""
        jobs = [self.prepare(request) for request in requests]
        rows_total = sum(len(job.plan) for job in jobs)
        tickets = [self.enqueue(job) for job in jobs]
        asked = frozenset(tickets)
        done: dict[int, Result] = {}
        others: list[Result] = []
        rows_done = 0
        while len(done) < len(tickets):
            rows_done += self.step().rows
            for result in self.collect():
                if result.number in asked:
                    done[result.number] = result
                else:
                    others.append(result)
            if progress is not None:
                progress(Progress(len(done), len(tickets), min(rows_done, rows_total), rows_total))
        self._results.extend(others)
        return [done[ticket] for ticket in tickets]

    def _admit(self, numbers: Collection[int] | None, finished: list[int]) -> tuple[int, ...]:
        reserved: list[tuple[int, Job]] = []
        for number in list(self._waiting) if numbers is None else numbers:
            job = self._waiting.get(number)
            # What is encoded by a thread is waited for only where there is nothing else to do.
            if job is None or not (self._encoder.ready(job) or not (reserved or len(self._pool))):
                continue
            index = self._pool.reserve(job)
            if index is None:
                break  # a large request is not overtaken by small ones
            reserved.append((index, self._waiting.pop(number)))
        outcomes = self._encoder.encode([job for _, job in reserved])
        admitted: list[int] = []
        for (index, job), outcome in zip(reserved, outcomes, strict=True):
            if isinstance(outcome, HeadraceError):
                self._pool.release(index, job)
                self._results.append(self._result(job, error=outcome))
                finished.append(job.number)
            else:
                self._pool.place(Slot(index, job, self._of_sizes(job, outcome), self.pipeline.device))
                admitted.append(job.number)
        self._encoder.ahead(list(self._waiting.values()))
        return tuple(admitted)

    def _of_sizes(self, job: Job, conditioning: Conditioning) -> Mapping[float, Conditioning]:
        """Scale -> what the network is told at it: at small rows what a request of that size would tell."""
        return {
            scale: conditioning if scale == 1.0 else conditioning.told(self.pipeline.size_conditions(shape))
            for scale, shape in job.sizes.items()
        }

    def _finish(self, slot: Slot, outcome: Pixels | HeadraceError) -> bool:
        if not self._pool.holds(slot):
            return False  # cancelled, or failed already
        self._pool.release(slot.index, slot.job)
        if isinstance(outcome, HeadraceError):
            self._results.append(self._result(slot.job, error=outcome))
        else:
            self._results.append(self._result(slot.job, pixels=outcome))
        return True

    def _result(self, job: Job, pixels: Pixels | None = None, error: HeadraceError | None = None) -> Result:
        return Result(job.number, job.request, job.plan, self._planner.settings(job.request, job.plan), pixels, error)
