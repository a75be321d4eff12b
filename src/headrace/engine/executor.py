"""Carries out rounds: admission, rows beside chunks, previews; what finishes goes to the outbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from headrace.engine.admission import Admission
from headrace.engine.decoder import Decoder
from headrace.engine.decoding import Outcome, not_finite
from headrace.engine.health import broken
from headrace.engine.lanes import lane_of
from headrace.engine.moment import Moment
from headrace.engine.order import Order, check_order
from headrace.engine.outbox import Outbox
from headrace.engine.pool import Pool
from headrace.engine.previews import Prediction, Preview, Previewer
from headrace.engine.result import RoundReport
from headrace.engine.round_times import RoundTimes
from headrace.engine.rounds import Rounds
from headrace.engine.settings import EngineSettings
from headrace.engine.slot import Slot
from headrace.engine.timings import Timings
from headrace.models.pipelines.base import Pipeline


class Executor:
    """The parts of an engine that work, and one round of them. Driven by the engine's thread, without gradients."""

    def __init__(
        self, pipeline: Pipeline, settings: EngineSettings, timings: Timings, pool: Pool, outbox: Outbox
    ) -> None:
        self.admission = Admission(pipeline, settings, timings, pool)
        self.rounds = Rounds(pipeline, settings, timings)
        self.decoder = Decoder(pipeline, settings, timings, lane_of(pipeline.device, settings))
        self.previewer = Previewer(pipeline, timings)
        self.on_preview: Callable[[Preview], None] | None = None
        self._device = pipeline.device
        self._timings = timings
        self._pool = pool
        self._outbox = outbox

    def step(self, order: Order) -> RoundReport:
        """As `Engine.step`."""
        decoder, finished = self.decoder, list[int]()
        ended = decoder.ended
        with self._timings.measure("total"):
            self._take_in(decoder.settle(), finished)
            check_order(order, self.admission.jobs, self._pool.resident, decoder.in_flight)
            admitted = self._admit(order, finished)
            begun = Moment(self._device)
            earlier = self.rounds.health.take()
            # What was denoised before runs beside the rows. A lane that runs nothing beside them has it wait, where it
            # may, for what the rows finish, to decode all in one call.
            beside = self._decodable(order) if decoder.lane.concurrent or order.decode is not None else []
            calls = decoder.start(beside, order.chunks)
            self._take_in(decoder.settle(), finished)
            with decoder.lane.beside_rows():
                # A picture that is done does not wait for the other network calls of the round.
                advance = self.rounds.advance(self._movable(order), lambda: self._take_in(decoder.settle(), finished))
                rows_done = Moment(self._device) if advance.calls else None
                self._preview(advance.predictions)
            self._take_in(advance.failures + [(slot, not_finite(slot)) for slot in broken(earlier)], finished)
            after: list[Slot] = []
            if order.decode is None:
                after = [slot for slot in self._decodable(order) if all(slot is not one for one in beside)]
                calls += decoder.start(after, order.chunks)
            with self._timings.measure("decode"):
                nothing_else = not (advance.calls or admitted or decoder.ended > ended)
                self._take_in(decoder.settle(wait=nothing_else or not decoder.lane.concurrent), finished)
        return RoundReport(
            len(advance.moved), advance.network_rows, advance.body_rows, advance.calls,
            len(finished), len(self.admission.jobs), len(self._pool),
            len(beside) + len(after), decoder.ended - ended, admitted, tuple(finished),
            RoundTimes(begun, rows_done, calls), tuple(advance.moved),
        )  # fmt: skip

    def _admit(self, order: Order, finished: list[int]) -> tuple[int, ...]:
        admitted = self.admission.admit(order.admit)
        for job, error in admitted.failures:
            self._outbox.failed(job, error)
            finished.append(job.number)
        return tuple(admitted.tickets)

    def _movable(self, order: Order) -> list[Slot]:
        running = [slot for slot in self._pool.resident if not slot.done]
        return [slot for slot in running if order.rows is None or slot.job.number in order.rows]

    def _decodable(self, order: Order) -> list[Slot]:
        running = self.decoder.in_flight
        denoised = [slot for slot in self._pool.resident if slot.done and slot.job.number not in running]
        return [slot for slot in denoised if order.decode is None or slot.job.number in order.decode]

    def _preview(self, predictions: Sequence[Prediction]) -> None:
        due = [prediction for prediction in predictions if self._pool.holds(prediction.slot)]
        if due and self.on_preview is not None:
            self.previewer.make(due, self.on_preview, self.decoder.batch)

    def _take_in(self, outcomes: Sequence[Outcome], finished: list[int]) -> None:
        for slot, outcome in outcomes:
            if self._pool.holds(slot):  # neither cancelled nor failed already
                self._pool.release(slot.index, slot.job)
                self._outbox.finished(slot, outcome)
                finished.append(slot.job.number)

    def poll(self) -> None:
        """Takes in the chunks that ended by now; waits for nothing."""
        self._take_in(self.decoder.settle(), [])

    def close(self) -> None:
        """Ends the threads of lane and text encoders, where there are any."""
        self.decoder.lane.close()
        self.admission.close()
