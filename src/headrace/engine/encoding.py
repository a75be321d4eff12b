"""Conditioning of requests: encoded when they are admitted, or before that in a thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from headrace.engine.decoding import execution_error
from headrace.engine.settings import EngineSettings, side_threads
from headrace.engine.slot import Job
from headrace.engine.timings import Timings
from headrace.errors import HeadraceError
from headrace.models.conditioning import Conditioning
from headrace.models.pipelines.base import Pipeline

Encoded = Conditioning | HeadraceError


class Encoder:
    """Calls the text encoders in batches. Whose encoding raises, fails alone."""

    def __init__(self, pipeline: Pipeline, timings: Timings) -> None:
        self._pipeline = pipeline
        self._timings = timings

    def ahead(self, jobs: Sequence[Job]) -> None:
        """May begin to encode jobs that wait."""
        return

    def ready(self, job: Job) -> bool:
        """Whether `encode` returns at once, as far as can be known."""
        return True

    def drop(self, number: int) -> None:
        """Forgets a job that will not be admitted."""
        return

    def encode(self, jobs: Sequence[Job]) -> list[Encoded]:
        """Conditioning of each job, or the error that encoding it alone raises."""
        return self._encode_now(jobs)

    @torch.inference_mode()
    def _encode_now(self, jobs: Sequence[Job]) -> list[Encoded]:
        if not jobs:
            return []
        try:
            with self._timings.measure("encode"):
                encoded: list[Encoded] = list(self._pipeline.encode([job.request for job in jobs]))
            if len(encoded) != len(jobs):
                raise ValueError(f"{len(encoded)} conditionings for {len(jobs)} requests")
            return encoded
        except Exception as error:
            if len(jobs) == 1:
                return [execution_error("text encoder", error)]
            return [outcome for job in jobs for outcome in self._encode_now([job])]

    def close(self) -> None:
        """Ends its thread, where it has one."""
        return


class AheadEncoder(Encoder):
    """Encodes in one thread, whatever has come together there at once, for at most `most` jobs that wait."""

    def __init__(self, pipeline: Pipeline, timings: Timings, most: int, threads: int) -> None:
        super().__init__(pipeline, timings)
        self._most = most
        self._jobs: deque[tuple[Job, Future[Encoded]]] = deque()
        self._encoded: dict[int, Future[Encoded]] = {}
        self._thread = ThreadPoolExecutor(1, "headrace-encode", initializer=torch.set_num_threads, initargs=(threads,))

    def ahead(self, jobs: Sequence[Job]) -> None:
        """Begins to encode those of the jobs, in this order, that there is room for."""
        room = self._most - len(self._encoded)
        self._begin([job for job in jobs if job.number not in self._encoded][: max(room, 0)])

    def _begin(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._encoded[job.number] = Future()
            self._jobs.append((job, self._encoded[job.number]))
        if jobs:
            self._thread.submit(self._encode_all)

    def _encode_all(self) -> None:
        batch: list[tuple[Job, Future[Encoded]]] = []
        while self._jobs:
            batch.append(self._jobs.popleft())
        outcomes = self._encode_now([job for job, _ in batch])
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            future.set_result(outcome)

    def ready(self, job: Job) -> bool:
        """Whether the job is encoded. Begins to encode it where nobody did."""
        if job.number not in self._encoded:
            self._begin([job])
        return self._encoded[job.number].done()

    def drop(self, number: int) -> None:
        """Forgets a job that will not be admitted."""
        self._encoded.pop(number, None)

    def encode(self, jobs: Sequence[Job]) -> list[Encoded]:
        """What the thread made of each job; waits for those that it has not come to."""
        self._begin([job for job in jobs if job.number not in self._encoded])
        return [self._encoded.pop(job.number).result() for job in jobs]

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown()


def encoder_of(pipeline: Pipeline, settings: EngineSettings, timings: Timings) -> Encoder:
    """The encoder that the settings ask for."""
    if not settings.encode_ahead:
        return Encoder(pipeline, timings)
    return AheadEncoder(pipeline, timings, settings.slots, side_threads(settings))
