"""The denoising part of a round: rows grouped by batch key, called and updated; who fails, fails alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from headrace.engine.batch import Batch
from headrace.engine.decoding import execution_error
from headrace.engine.health import Health
from headrace.engine.runner import Runner
from headrace.engine.settings import EngineSettings
from headrace.engine.slot import BatchKey, Slot
from headrace.engine.timings import Timings
from headrace.errors import HeadraceError
from headrace.models.pipelines.base import Pipeline


@dataclass
class Advance:
    """What one round's denoising did, and the slots that failed in it."""

    rows: int = 0
    network_rows: int = 0
    calls: int = 0
    failures: list[tuple[Slot, HeadraceError]] = field(default_factory=list)


class Rounds:
    """Moves slots one row on, in as few network calls as their batch keys and the row budget allow."""

    def __init__(self, pipeline: Pipeline, settings: EngineSettings, timings: Timings) -> None:
        self._runner = Runner(pipeline, settings)
        self._timings = timings
        self._dtype = pipeline.dtype
        self._pipeline = pipeline
        _, height, width = pipeline.latent_shape(*pipeline.default_size)
        self._area_budget = settings.max_rows * height * width
        self.health = Health(pipeline.device)

    def advance(self, slots: Sequence[Slot], between: Callable[[], None] = lambda: None) -> Advance:
        """Evaluates the current row of every given slot. One whose row raises stays where it was, among `failures`.

        `between` is called after every network call.
        """
        done = Advance()
        for group in self._calls(slots):
            self._evaluate(group, done)
            between()
        return done

    def _calls(self, slots: Sequence[Slot]) -> Iterator[list[Slot]]:
        """Slots by batch key, a call's network rows within the budget (counted at the default size)."""
        groups: dict[BatchKey, list[Slot]] = defaultdict(list)
        for slot in slots:
            groups[slot.key].append(slot)
        for (shape, *_), group in groups.items():
            most = max(1, self._area_budget // (shape[1] * shape[2]))
            call: list[Slot] = []
            rows = 0
            for slot in group:
                if call and rows + slot.network_rows > most:
                    yield call
                    call, rows = [], 0
                call.append(slot)
                rows += slot.network_rows
            yield call

    def _evaluate(self, slots: list[Slot], done: Advance) -> None:
        try:
            batch = Batch(slots, self._dtype, sorted(self._pipeline.columns))
            rows = batch.rows()
            with self._timings.measure("network"):
                outputs = self._runner(rows)
            guided = batch.guide(outputs)
            _check_shape(guided, slots)
        except Exception as error:
            self._isolate(slots, error, done)
            return
        self.health.record(slots, batch.commit(guided))
        done.rows += len(slots)
        done.network_rows += len(rows)
        done.calls += 1

    def _isolate(self, slots: list[Slot], error: Exception, done: Advance) -> None:
        """Nothing was changed yet: halve the call until the request that makes it fail stands alone."""
        if len(slots) == 1:
            done.failures.append((slots[0], execution_error("network", error)))
            return
        middle = len(slots) // 2
        self._evaluate(slots[:middle], done)
        self._evaluate(slots[middle:], done)


def _check_shape(outputs: torch.Tensor, slots: Sequence[Slot]) -> None:
    expected = (len(slots), *slots[0].shape)
    if tuple(outputs.shape) != expected:
        raise ValueError(f"the network's output has shape {tuple(outputs.shape)}, not {expected}")
