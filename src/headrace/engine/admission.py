"""Requests that wait, and how they come into slots."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from headrace.engine.encoding import encoder_of
from headrace.engine.pool import Pool
from headrace.engine.settings import EngineSettings
from headrace.engine.slot import Job, Slot
from headrace.engine.timings import Timings
from headrace.errors import HeadraceError
from headrace.models.conditioning import Conditioning
from headrace.models.pipelines.base import Pipeline


@dataclass
class Admitted:
    """Tickets that got a slot, in that order, and jobs whose conditioning could not be made."""

    tickets: list[int] = field(default_factory=list)
    failures: list[tuple[Job, HeadraceError]] = field(default_factory=list)


class Admission:
    """Jobs in the order of their arrival; `jobs` maps their tickets to them."""

    def __init__(self, pipeline: Pipeline, settings: EngineSettings, timings: Timings, pool: Pool) -> None:
        self.jobs: OrderedDict[int, Job] = OrderedDict()
        self._pipeline = pipeline
        self._pool = pool
        self._encoder = encoder_of(pipeline, settings, timings)

    def add(self, job: Job) -> None:
        """Has a job wait."""
        self.jobs[job.number] = job
        self._encoder.ahead([job])

    def drop(self, number: int) -> bool:
        """Forgets a job. False where none of this ticket waits."""
        self._encoder.drop(number)
        return self.jobs.pop(number, None) is not None

    def admit(self, numbers: Collection[int] | None) -> Admitted:
        """Places these jobs, or all, in their order; the first one that finds no room holds the rest back.

        What a thread has still to encode is passed over, unless there is nothing else to do.
        """
        reserved: list[tuple[int, Job]] = []
        for number in list(self.jobs) if numbers is None else numbers:
            job = self.jobs.get(number)
            if job is None or not (self._encoder.ready(job) or (not reserved and not len(self._pool))):
                continue
            index = self._pool.reserve(job)
            if index is None:
                break  # a large request is not overtaken by small ones
            reserved.append((index, self.jobs.pop(number)))
        admitted = Admitted()
        outcomes = self._encoder.encode([job for _, job in reserved])
        for (index, job), outcome in zip(reserved, outcomes, strict=True):
            if isinstance(outcome, HeadraceError):
                self._pool.release(index, job)
                admitted.failures.append((job, outcome))
            else:
                self._pool.place(Slot(index, job, self._of_sizes(job, outcome), self._pipeline.device))
                admitted.tickets.append(job.number)
        self._encoder.ahead(list(self.jobs.values()))
        return admitted

    def _of_sizes(self, job: Job, conditioning: Conditioning) -> Mapping[float, Conditioning]:
        """Scale -> what the network is told at it: at small rows what a request of that size would tell."""
        return {
            scale: conditioning if scale == 1.0 else conditioning.told(self._pipeline.size_conditions(shape))
            for scale, shape in job.sizes.items()
        }

    def close(self) -> None:
        """Ends the encoder's thread, where there is one."""
        self._encoder.close()
