"""Measures settings: pictures from an engine, in turns with plain sampling, judged and timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from headrace.engine import Engine, EngineSettings
from headrace.evaluation.extractors.extractor import FeatureExtractor
from headrace.evaluation.metrics.gaussian import Gaussian
from headrace.models.macs import count_macs
from headrace.models.pipelines.base import Pipeline
from headrace.plan import Plan
from headrace.request import Request
from headrace.techniques.block_caching.schedule import Schedule
from headrace.tuning import interval
from headrace.tuning.accelerated import accelerated
from headrace.tuning.interval import Interval
from headrace.tuning.judges import Judge, Pixels, distances, features, frechet
from headrace.tuning.schedules import Schedules
from headrace.tuning.settings import Settings
from headrace.tuning.trial import Outcome

_PROFILED = 8  # prompts that schedules are measured on
_MOST_TURNS = 8  # of plain sampling in one measurement of the search
_FEWEST_FOR_FRECHET = 16


@dataclass(frozen=True)
class Subject:
    """What is measured: a pipeline that caches nothing, plain settings, and what pictures are made of and judged by.

    Attributes:
        requests: one a prompt, of the baseline's solver and steps, each with its own seed.
        batch: requests in the engine at once, in both of what takes turns.
        extractor: whose features the Frechet distance is of; `reference` are those of the real pictures, or None: then
            the plain model's are the reference.
    """

    pipeline: Pipeline
    baseline: Settings
    requests: Sequence[Request]
    judge: Judge
    batch: int
    extractor: FeatureExtractor
    reference: Gaussian | None = None


@dataclass
class Turns:
    """Seconds a picture of what took turns: `own` and, beside each group of them, `plain`."""

    own: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)


class Measure:
    """Measures settings of one subject. Plain pictures are made once and kept; every timing is taken anew.

    `advance` is told how many pictures were made for settings since it was last called.
    """

    def __init__(self, subject: Subject, advance: Callable[[int], None] | None = None) -> None:
        self._subject = subject
        self._advance = advance or (lambda pictures: None)
        self._plain: dict[int, Pixels] = {}
        self._planner = Engine(subject.pipeline, EngineSettings(slots=subject.batch))
        few = [self._request(number, subject.baseline) for number in range(min(_PROFILED, len(subject.requests)))]
        self.schedules = Schedules(subject.pipeline, few, self._planner.plan, subject.batch)

    def plan(self, settings: Settings) -> Plan:
        """The plan of plain sampling with the settings' solver and steps. Raises `SolverError`."""
        return self._planner.plan(self._request(0, settings))

    def search(self, settings: Settings, pictures: int, final: bool = False) -> Outcome:
        """On the first prompts, plain sampling taking a turn after every second batch (`final`: after each), 8 at most.

        A single turn, as in a first rung, gives a cost without an interval: its ends are the figure itself.
        """
        return self._measure(settings, range(pictures), every=1 if final else 2, most=_MOST_TURNS)

    def confirm(self, settings: Settings, prompts: range) -> Outcome:
        """On these prompts, plain sampling taking a turn after every batch."""
        return self._measure(settings, prompts, every=1, most=len(prompts))

    def macs(self, settings: Settings) -> int:
        """Multiply-accumulates of one picture, counted while it is made; the decoder included, the text left out."""
        request = self._request(0, settings)
        self._subject.pipeline.encode([request])
        with accelerated(self._subject.pipeline, settings, self.schedules(settings)) as decide:
            engine = self._engine(decide)
            return count_macs(lambda: engine.generate([request])).total

    def _measure(self, settings: Settings, prompts: range, every: int, most: int) -> Outcome:
        schedule = self.schedules(settings)
        same = settings.identity == self._subject.baseline.identity
        batches = [
            prompts[start : start + self._subject.batch] for start in range(0, len(prompts), self._subject.batch)
        ]
        if same:
            made = np.concatenate([self._plain_pictures(batch) for batch in batches])
            self._advance(len(prompts))
            return self._outcome(made, prompts, Interval.exact(1.0))
        turns, parts = Turns(), []
        for number, batch in enumerate(batches):
            pictures, seconds = self._timed(batch, settings, schedule)
            parts.append(pictures)
            self._advance(len(batch))
            if number % every == 0:
                turns.own.append(seconds)
                if len(turns.plain) < most:
                    turns.plain.append(self._timed_plain(batch))
            else:
                turns.own[-1] = (turns.own[-1] + seconds) / 2
        paired = len(turns.plain)
        cost = interval.ratio(turns.own[:paired], turns.plain)
        return self._outcome(np.concatenate(parts), prompts, cost)

    def _outcome(self, made: Pixels, prompts: range, cost: Interval) -> Outcome:
        subject = self._subject
        plain = self._plain_pictures(prompts)
        numbers = np.array(prompts)
        qualities = subject.judge(made, plain, numbers)
        against = interval.difference(qualities, subject.judge(plain, plain, numbers))
        figures = {"against_plain": against.value, "against_plain_low": against.low, "against_plain_high": against.high}
        figures |= distances(made, plain)
        if len(made) >= _FEWEST_FOR_FRECHET:
            reference = subject.reference or Gaussian.of(features(subject.extractor, plain))
            figures["frechet"] = frechet(subject.extractor, made, reference)
        return Outcome(cost=cost, quality=interval.mean(qualities), figures=figures)

    def _plain_pictures(self, prompts: Sequence[int]) -> Pixels:
        """From those that were made, and the engine for the rest."""
        missing = [number for number in prompts if number not in self._plain]
        for start in range(0, len(missing), self._subject.batch):
            self._timed_plain(missing[start : start + self._subject.batch])
        return np.stack([self._plain[number] for number in prompts])

    def _timed_plain(self, prompts: Sequence[int]) -> float:
        """Seconds a picture of plain sampling; its pictures are kept."""
        pictures, seconds = self._timed(prompts, self._subject.baseline, None)
        self._plain.update(zip(prompts, pictures, strict=True))
        return seconds

    def _timed(self, prompts: Sequence[int], settings: Settings, schedule: Schedule | None) -> tuple[Pixels, float]:
        """Pictures, and seconds for each: prompts encoded and plans made before the clock starts."""
        pipeline = self._subject.pipeline
        asked = [self._request(number, settings) for number in prompts]
        pipeline.encode(asked)
        with accelerated(pipeline, settings, schedule) as decide:
            engine = self._engine(decide)
            engine.plan(asked[0])
            _wait(pipeline)
            began = time.perf_counter()
            results = engine.generate(asked)
            _wait(pipeline)
            seconds = time.perf_counter() - began
        return np.stack([np.asarray(one.image.convert("RGB")) for one in results]), seconds / len(asked)

    def _engine(self, decide: Callable[[Plan], Plan]) -> Engine:
        return Engine(self._subject.pipeline, EngineSettings(slots=self._subject.batch), decide)

    def _request(self, number: int, settings: Settings) -> Request:
        update = {"solver": settings.solver, "steps": settings.steps}
        return self._subject.requests[number].model_copy(update=update)


def _wait(pipeline: Pipeline) -> None:
    if pipeline.device.type == "cuda":
        torch.cuda.synchronize(pipeline.device)
