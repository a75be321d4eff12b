"""Chunks in a thread of their own, with its own number of torch threads, beside the rows: for CPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from headrace.engine.decoding import ChunkCall
from headrace.engine.lanes.lane import Running
from headrace.engine.moment import Moment


@dataclass(frozen=True)
class _Run:
    call: ChunkCall
    ended: Future[Moment]

    @property
    def done(self) -> bool:
        return self.ended.done()

    def wait(self) -> Moment:
        return self.ended.result()


class ThreadsLane:
    """One thread, which runs calls in the order of their start. Rows have the torch threads that it leaves."""

    concurrent = True

    def __init__(self, device: torch.device, threads: int) -> None:
        self._device = device
        self._threads = threads
        # How many threads torch uses is a setting of each thread that calls it.
        self._worker = ThreadPoolExecutor(1, "headrace-decode", initializer=torch.set_num_threads, initargs=(threads,))
        self._latest: Future[Moment] | None = None

    def start(self, calls: Sequence[ChunkCall]) -> list[Running]:
        """Queues the calls."""
        started: list[Running] = []
        for call in calls:
            self._latest = self._worker.submit(self._run, call)
            started.append(_Run(call, self._latest))
        return started

    def _run(self, call: ChunkCall) -> Moment:
        call.run()
        return Moment(self._device)

    @contextmanager
    def beside_rows(self) -> Iterator[None]:
        """More threads than cores would wait for one another, at every operation."""
        if self._latest is None or self._latest.done():
            yield
            return
        before = torch.get_num_threads()
        torch.set_num_threads(max(1, before - self._threads))
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def close(self) -> None:
        """Ends the thread after what is queued."""
        self._worker.shutdown()
