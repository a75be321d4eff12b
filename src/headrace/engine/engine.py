"""Step-level continuous batching: requests join and leave at any round."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from headrace.engine.acceleration import Acceleration, Decisions, attach_all, load_acceleration
from headrace.engine.executor import Executor
from headrace.engine.intake import Intake
from headrace.engine.order import Order
from headrace.engine.outbox import Outbox
from headrace.engine.pool import pool_of
from headrace.engine.previews import Preview, spread
from headrace.engine.result import Progress, Result, RoundReport
from headrace.engine.settings import EngineSettings
from headrace.engine.slot import Job
from headrace.engine.snapshot import Snapshot
from headrace.engine.standing import Standing, standing
from headrace.engine.timings import Timings
from headrace.errors import HeadraceError, OrderError
from headrace.models.pipelines.base import Pipeline
from headrace.models.pipelines.loading import load
from headrace.plan.plan import Plan
from headrace.request import Request


class Engine:
    """Executes the plan rows of many requests as few network calls.

    `submit`, `step` and `collect` are the interface that a server drives; `generate` runs a list to its end.
    An engine is driven by one thread.

    A picture is the same alone and in company, but for plans that fuse rows (column `fusion`, FuseBatch): there it
    depends on the requests whose rows shared its evaluations, and `Result.settings` says what K those had.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        settings: EngineSettings | None = None,
        decide: Callable[[Plan], Plan] | None = None,
        defaults: Mapping[str, Any] | None = None,
        accelerations: Mapping[str, Decisions] | None = None,
    ) -> None:
        """`decide` fills decision columns of the plans that the engine makes; what it raises, `submit` raises.

        It is given what the model itself decides (`Pipeline.own_decisions`) and may overwrite that.

        `defaults` are fields that a request takes over where it was made without them. Both are for requests that name
        none of `accelerations` (`headrace.engine.acceleration.attach_all`), whose decisions are for those that do.
        """
        self.pipeline = pipeline
        self.settings = settings or EngineSettings()
        self.timings = Timings(pipeline.device, self.settings.synchronize_timings)
        self._pool = pool_of(pipeline, self.settings)
        self._intake = Intake(pipeline, self._pool, Decisions(decide, defaults or {}), accelerations or {})
        self._outbox = Outbox(self._intake.settings)
        self._executor = Executor(pipeline, self.settings, self.timings, self._pool, self._outbox)
        self._waiting = self._executor.admission.jobs

    @classmethod
    def from_pretrained(
        cls,
        path_or_name: str | Path,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        slots: int = 32,
        acceleration: str | Path | None = None,
        accelerations: Mapping[str, str | Path] | None = None,
    ) -> Engine:
        """An engine on a local diffusers folder or an embedded model.

        `acceleration` is a file of `headrace tune`, `calibrate blocks` or `calibrate stages`: its techniques are
        attached, and a request that names no solver or steps takes the file's. `accelerations` are files for the
        requests that name them. Raises `ModelError` as `load` does and where two of them cannot be attached together,
        `ArtefactError` for a file that cannot be used or was made for another model.
        """
        found: dict[str | None, Acceleration] = {}
        for name, path in [(None, acceleration), *(accelerations or {}).items()]:
            if path is not None:
                found[name] = load_acceleration(path)
        pipeline = load(path_or_name, device=device, dtype=dtype)
        attached = attach_all(pipeline, found)
        otherwise = attached.pop(None, Decisions())
        named = {name: one for name, one in attached.items() if name is not None}
        return cls(pipeline, EngineSettings(slots=slots), otherwise.decide, otherwise.defaults, named)

    def plan(self, request: Request, acceleration: str | None = None) -> Plan:
        """The plan that `prepare` would use. Raises `RequestError` and `SolverError`."""
        return self._intake.plan(request, acceleration)

    def submit(self, request: Request, plan: Plan | None = None) -> int:
        """Queues a request and returns its ticket. `plan` replaces the plain one.

        Raises `RequestError` (this model cannot serve it), `CapacityError` (it can never fit), `SolverError` or
        `PlanError`, all before any work is done.
        """
        return self.enqueue(self.prepare(request, plan))

    def prepare(
        self,
        request: Request,
        plan: Plan | None = None,
        *,
        acceleration: str | None = None,
        snapshot: Snapshot | None = None,
        previews: int | Collection[int] = 0,
    ) -> Job:
        """A request checked and planned, for `enqueue`; its ticket is `number`. For any thread. Raises as `submit`.

        `acceleration` names one of the engine's, which decides in its plan; `Result.settings` then has it. With a
        `snapshot` of the same request it goes on from there, as the snapshot's plan says: `plan` is left out.
        Raises `PlanError` where a snapshot does not suit the request. `previews` is how many `on_preview` is given,
        evenly spread over the rows, or after which numbers of rows; they change nothing of the picture.
        """
        intake = self._intake
        if snapshot is None:
            job = intake.prepare(request, plan, acceleration)
        else:
            job = intake.resumed(request, snapshot, acceleration)
        return replace(job, previews=spread(previews, len(job.plan)))

    def enqueue(self, job: Job) -> int:
        """Queues what `prepare` made, and returns its ticket."""
        self._executor.admission.add(job)
        return job.number

    def replan(self, number: int, plan: Plan) -> None:
        """Has a waiting or denoising request go on with another plan, from its current row on.

        Raises `PlanError` where rows that are done differ or the plan needs more than was reserved for the request
        (`headrace.engine.replanning`), and `OrderError` where no such request has rows to come.
        """
        waiting, slot = self._waiting.get(number), self._pool.find(number)
        if waiting is not None:
            self._waiting[number] = self._intake.replanned(waiting, plan)
        elif slot is not None and not slot.done:
            slot.replan(self._intake.replanned(slot, plan))
        else:
            raise OrderError(f"request {number} has no rows to come", "Replan while it waits or is denoised")

    def snapshot(self, number: int) -> Snapshot | None:
        """What a request needs to go on from here in another engine, of the same model; between rounds.

        None where nothing would be gained: it neither waits nor has a slot, waits from its beginning, or is decoded;
        and while its next row reuses kept block values, which no snapshot has.
        """
        waiting, slot = self._waiting.get(number), self._pool.find(number)
        if waiting is not None:
            return waiting.snapshot
        return None if slot is None else slot.snapshot()

    def cancel(self, number: int) -> bool:
        """Drops a waiting or resident request: no row runs again, no result appears. False where it is neither."""
        if self._executor.admission.drop(number):
            return True
        slot = self._pool.find(number)
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
        return self._executor.decoder.in_flight & frozenset(self.resident)

    def progress(self, number: int) -> Standing:
        """How far a request is. Raises `OrderError` where it neither waits nor has a slot."""
        place = self._waiting.get(number) or self._pool.find(number)
        if place is None:
            raise OrderError(f"request {number} neither waits nor has a slot", "It finished, failed or was cancelled")
        return standing(self.pipeline, place)

    @torch.inference_mode()
    def step(self, order: Order | None = None) -> RoundReport:
        """One round: admits, moves requests one row on, and decodings one chunk: what `order` says, else all that can.

        Rows and chunks run together as the lane allows. A round that admits nobody and has no rows lasts until a chunk
        is done. Raises `OrderError` before any work.
        """
        return self._executor.step(order or Order())

    @property
    def on_result(self) -> Callable[[Result], None] | None:
        """Where set, it is called with each result as soon as that is there, in place of `collect`."""
        return self._outbox.on_result

    @on_result.setter
    def on_result(self, tell: Callable[[Result], None] | None) -> None:
        self._outbox.on_result = tell

    @property
    def on_preview(self) -> Callable[[Preview], None] | None:
        """Where set, it is called with the previews that `prepare` was asked for, in the round of their rows."""
        return self._executor.on_preview

    @on_preview.setter
    def on_preview(self, tell: Callable[[Preview], None] | None) -> None:
        self._executor.on_preview = tell

    @property
    def previews_failed(self) -> int:
        """Previews that could not be made so far; their requests went on."""
        return self._executor.previewer.failed

    @property
    def max_rows(self) -> int:
        """Network rows in one call now, counted at the default size: `EngineSettings.max_rows` at first.

        A call that runs out of memory halves it for good, and is made again in halves. It does not grow back: what
        was too much once would be again, and finding out loses a call every time. A new engine begins anew.
        """
        return self._executor.rounds.max_rows

    @property
    def decode_batch(self) -> int:
        """Pictures decoded in one call now, which running out of memory halves for good as it does `max_rows`."""
        return self._executor.decoder.batch

    def poll(self) -> None:
        """Takes in the chunks that ended by now; waits for nothing."""
        self._executor.poll()

    def collect(self) -> list[Result]:
        """What finished or failed since the last call, in that order. Waits for nothing."""
        self.poll()
        return self._outbox.collect()

    def generate(self, requests: Sequence[Request], progress: Callable[[Progress], None] | None = None) -> list[Result]:
        """The results of all requests, in their order. A bad one raises before any work; later failures stay alone."""
        if self.on_result is not None:
            raise HeadraceError("the engine's results are handed to on_result", "Generate with an engine of your own")
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
        self._outbox.put_back(others)
        return [done[ticket] for ticket in tickets]

    def close(self) -> None:
        """Ends the threads of lane and text encoders, where there are any; what they were given comes to its end."""
        self._executor.close()
