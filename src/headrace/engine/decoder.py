"""The decoding part of a round: chunks begun in the engine's lane, and taken in when they are done."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.engine.decoding import Outcome, begin, calls, execution_error
from headrace.engine.lanes import Lane
from headrace.engine.lanes.lane import Running
from headrace.engine.settings import EngineSettings
from headrace.engine.slot import Slot
from headrace.engine.timings import Timings
from headrace.models.pipelines.base import Pipeline


class Decoder:
    """Moves decodings on, in as few calls as their shapes and positions allow.

    A slot is in flight from the start of its chunk until `settle` took that in.
    """

    def __init__(self, pipeline: Pipeline, settings: EngineSettings, timings: Timings, lane: Lane) -> None:
        self.lane = lane
        self.ended = 0  # chunks that were taken in so far, one for each request
        self._pipeline = pipeline
        self.batch = settings.decode_batch  # pictures in one call; running out of memory halves it
        self._timings = timings
        self._running: list[Running] = []
        self._failed: list[Outcome] = []

    @property
    def in_flight(self) -> frozenset[int]:
        """Tickets whose chunk was not taken in yet."""
        return frozenset(slot.job.number for running in self._running for slot in running.call.slots)

    def start(self, slots: Sequence[Slot], chunks: int) -> list[Running]:
        """Starts the next chunk of each slot, `chunks` of them where a decoding begins."""
        if not slots:
            return []
        with self._timings.measure("decode"):
            started = self.lane.start(list(calls(self._begun(slots, chunks), self.batch)))
        self._running += started
        return started

    def _begun(self, slots: Sequence[Slot], chunks: int) -> list[Slot]:
        begun: list[Slot] = []
        for slot in slots:
            try:
                if slot.decoding is None:
                    begin(self._pipeline, slot, chunks)
                begun.append(slot)
            except Exception as error:
                self._failed.append((slot, execution_error("decoder", error)))
        return begun

    def settle(self, wait: bool = False) -> list[Outcome]:
        """Takes in the chunks that are done: pictures of those at their end, and who failed, with what.

        With `wait`, waits for the first one that still runs, or in a lane that is not concurrent for all.
        """
        if wait and not self.lane.concurrent:
            for running in self._running:
                running.wait()
        elif wait and self._running and not any(running.done for running in self._running):
            self._running[0].wait()  # a lane runs its calls in the order of their start
        ended = [running for running in self._running if running.done]
        self._running = [running for running in self._running if all(running is not one for one in ended)]
        outcomes, self._failed = self._failed, []
        for running in ended:
            running.wait()  # what escaped in a thread is raised here
            self.ended += len(running.call.slots)
            if running.call.too_many is not None:
                self.batch = min(self.batch, max(1, running.call.too_many // 2))
            outcomes += running.call.settle()
        return outcomes
