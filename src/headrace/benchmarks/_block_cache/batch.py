"""Part three: a mixed continuous batch, every request with its own steps and schedule, with and without the cache."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from headrace.benchmarks._contestants import Pixels, engine_turns, race
from headrace.benchmarks._progress import bars
from headrace.benchmarks._prompts import PROMPTS
from headrace.engine import Engine, EngineSettings
from headrace.errors import HeadraceWarning
from headrace.models.pipelines.base import Pipeline
from headrace.models.row_cache import attached
from headrace.plan import Plan
from headrace.request import Request
from headrace.techniques.block_caching.calibrate import Profile
from headrace.techniques.block_caching.schedule import apply, from_change

REQUESTS = 16
STEPS, DELTAS, GUIDANCE = (12, 16, 20, 24, 30), (0.3, 0.4, 0.5, 0.6), (3.0, 5.0, 7.5)
WITH, WITHOUT = "mixed batch, each with its schedule", "mixed batch, no cache"


@dataclass(frozen=True)
class MixedBatch:
    """Images a second of both, and whether the cached pictures are those that each request gives alone."""

    images_per_second: float
    images_per_second_cached: float
    largest_difference: int
    share_evaluated: float

    @property
    def speedup(self) -> float:
        """Images a second with the cache over those without."""
        return self.images_per_second_cached / self.images_per_second

    @property
    def isolated(self) -> bool:
        """Whether no picture differs from that of its request alone by more than one level of 255."""
        return self.largest_difference <= 1


def measure_batch(pipeline: Pipeline, profile: Profile, solver: str) -> MixedBatch:
    """`REQUESTS` requests of different steps, guidance scales and thresholds, all at once through the engine."""
    blocks = profile.work.of_kind("transformer")
    requests = [
        Request(
            prompt=PROMPTS[number],
            solver=solver,
            steps=STEPS[number % len(STEPS)],
            guidance_scale=GUIDANCE[number % len(GUIDANCE)],
            seed=number,
        )
        for number in range(REQUESTS)
    ]
    plain = Engine(pipeline, EngineSettings(slots=REQUESTS))
    with attached(pipeline, blocks):
        cached = Engine(pipeline, EngineSettings(slots=REQUESTS))
        plans = [_scheduled(cached.plan(one), profile, number) for number, one in enumerate(requests)]
        pictures: dict[str, dict[int, Pixels]] = {WITH: {}, WITHOUT: {}}
        for plan, one in zip(plans[:2], requests[:2], strict=True):  # warms both up
            list(engine_turns(cached, [one], {}, [plan]))
            list(engine_turns(plain, [one], {}))
        turns = {
            WITHOUT: engine_turns(plain, requests, pictures[WITHOUT]),
            WITH: engine_turns(cached, requests, pictures[WITH], plans),
        }
        with bars() as show:
            seconds = race(turns, pipeline.device.type, show)
        difference = 0
        for number, (one, plan) in enumerate(zip(requests, plans, strict=True)):
            alone: dict[int, Pixels] = {}
            list(engine_turns(cached, [one], alone, [plan]))
            apart = np.abs(alone[0].astype(np.int16) - pictures[WITH][number].astype(np.int16))
            difference = max(difference, int(apart.max()))
    evaluated = float(np.mean(np.concatenate([plan.compute.ravel() for plan in plans])))
    return MixedBatch(REQUESTS / seconds[WITHOUT], REQUESTS / seconds[WITH], difference, evaluated)


def _scheduled(plan: Plan, profile: Profile, number: int) -> Plan:
    """The plan with its own threshold; other step counts than the profile's take its schedule by normalised time."""
    blocks = profile.work.of_kind("transformer")
    schedule = from_change(blocks, profile.timesteps, profile.change(blocks), DELTAS[number % len(DELTAS)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HeadraceWarning)
        return apply(plan, schedule)
