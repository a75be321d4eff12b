"""The denoising part of a round: rows grouped by batch key, called and updated; who fails, fails alone.

Rows that share an evaluation (K > 1) are grouped anew in every round, from those that run in it. One that raises fails
alone there too: its group is halved, and each half goes on at the same K, padded. So does one that makes the outputs
of its group NaN or infinite, on a CPU: elsewhere looking at once would mean to wait for the device, and whoever shared
that evaluation fails with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch

from headrace.engine.batch import Batch
from headrace.engine.decoding import execution_error
from headrace.engine.grouping import group
from headrace.engine.health import Health
from headrace.engine.memory import give_back, out_of_memory
from headrace.engine.previews import Prediction
from headrace.engine.runner import Runner
from headrace.engine.settings import EngineSettings
from headrace.engine.slot import BatchKey, Slot
from headrace.engine.timings import Timings
from headrace.errors import HeadraceError
from headrace.models.pipelines.base import Pipeline


@dataclass(frozen=True)
class Call:
    """What is evaluated in one network call: groups of at most K = `fusion` slots; at K = 1 a slot is a group."""

    fusion: int
    groups: list[list[Slot]]


@dataclass
class Advance:
    """What one round's denoising did, and the slots that failed in it. Counts and `moved` are `RoundReport`'s.

    `predictions` are those that previews are due of.
    """

    network_rows: int = 0
    body_rows: int = 0
    calls: int = 0
    moved: list[int] = field(default_factory=list)
    failures: list[tuple[Slot, HeadraceError]] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)


class Rounds:
    """Moves slots one row on, in as few network calls as their batch keys and the row budget allow."""

    def __init__(self, pipeline: Pipeline, settings: EngineSettings, timings: Timings) -> None:
        self._runner = Runner(pipeline, settings)
        self._timings = timings
        self._dtype = pipeline.dtype
        self._pipeline = pipeline
        self._factors = pipeline.fusion_factors
        _, height, width = pipeline.latent_shape(*pipeline.default_size)
        self._area = height * width
        self._budget = settings.max_rows * self._area  # rows in one call times their latents' area
        self.health = Health(pipeline.device)

    @property
    def max_rows(self) -> int:
        """Rows of the network's body in one call at most, counted at the default size; see `Engine.max_rows`."""
        return max(1, self._budget // self._area)

    def advance(self, slots: Sequence[Slot], between: Callable[[], None] = lambda: None) -> Advance:
        """Evaluates the current row of every given slot. One whose row raises stays where it was, among `failures`.

        `between` is called after every network call.
        """
        done = Advance()
        for call in self._calls(slots):
            self._evaluate(call, done)
            between()
        return done

    def _calls(self, slots: Sequence[Slot]) -> Iterator[Call]:
        """Slots by batch key and K; a call's rows of the network's body are within the budget."""
        alike: dict[BatchKey, list[Slot]] = defaultdict(list)
        for slot in slots:
            alike[slot.key].append(slot)
        for sharing in alike.values():
            if self._factors == (1,):
                yield from self._within(1, [[slot] for slot in sharing])
                continue
            groups = group([slot.fused_row for slot in sharing], self._factors)
            for fusion, of_one in groupby(groups, key=lambda one: one.fusion):
                members = [[sharing[place] for place in one.members] for one in of_one]
                yield from self._within(fusion, members)

    def _within(self, fusion: int, groups: Sequence[list[Slot]]) -> Iterator[Call]:
        """Groups of one shape as calls within the budget, which calls on the way may halve."""
        area = _area(groups[0])
        taken: list[list[Slot]] = []
        used = 0
        for members in groups:
            needed = _branches(members) * area
            if taken and used + needed > self._budget:
                yield Call(fusion, taken)
                taken, used = [], 0
            taken.append(members)
            used += needed
        yield Call(fusion, taken)

    def _evaluate(self, call: Call, done: Advance) -> None:
        slots = [slot for members in call.groups for slot in members]
        failure: Exception | None = None
        try:
            batch = Batch(call.groups, self._dtype, sorted(self._pipeline.columns), call.fusion)
            rows = batch.rows()
            with self._timings.measure("network"):
                outputs = self._runner(rows)
            guided = batch.guide(outputs)
            _check_shape(guided, slots)
            if call.fusion > 1 and len(slots) > 1 and guided.device.type == "cpu":
                _check_finite(guided)
        except Exception as error:
            failure = error
        if failure is not None:
            self._recover(call, failure, done)
            return
        done.moved += [slot.job.number for slot in slots]
        done.network_rows += batch.network_rows
        done.body_rows += len(rows) // call.fusion
        done.calls += 1
        done.predictions += batch.predictions(guided)
        self.health.record(slots, batch.commit(guided))

    def _recover(self, call: Call, error: Exception, done: Advance) -> None:
        """Nothing was changed yet: smaller calls, where memory ran out or to find out whom it is that makes it fail."""
        if not out_of_memory(error) or len(call.groups) == 1:
            self._isolate(call, error, done)
            return
        give_back(error, self._pipeline.device)
        used = sum(map(_branches, call.groups)) * _area(call.groups[0])
        self._budget = min(self._budget, used // 2)
        for smaller in self._within(call.fusion, call.groups):
            self._evaluate(smaller, done)

    def _isolate(self, call: Call, error: Exception, done: Advance) -> None:
        """Halves the call, and then its group, until who makes it fail stands alone."""
        groups = call.groups
        if len(groups) == 1:
            groups = _halves(groups[0])
        if len(groups) == 1:
            done.failures.append((groups[0][0], execution_error("network", error)))
            return
        middle = len(groups) // 2
        self._evaluate(Call(call.fusion, groups[:middle]), done)
        self._evaluate(Call(call.fusion, groups[middle:]), done)


def _area(members: Sequence[Slot]) -> int:
    _, height, width = members[0].shape
    return height * width


def _branches(members: Sequence[Slot]) -> int:
    """Rows of the network's body that a group takes: one in each branch."""
    return 2 if any(slot.guided for slot in members) else 1


def _halves(members: list[Slot]) -> list[list[Slot]]:
    middle = len(members) // 2
    return [half for half in (members[:middle], members[middle:]) if half]


def _check_finite(outputs: torch.Tensor) -> None:
    if not torch.isfinite(outputs).all():
        raise FloatingPointError("the network's output is NaN or infinite for rows that share an evaluation")


def _check_shape(outputs: torch.Tensor, slots: Sequence[Slot]) -> None:
    expected = (len(slots), *slots[0].shape)
    if tuple(outputs.shape) != expected:
        raise ValueError(f"the network's output has shape {tuple(outputs.shape)}, not {expected}")
