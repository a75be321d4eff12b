"""Part three, the headline: continuous batching with every technique together, against diffusers one by one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.benchmarks._block_cache.quality import Pixels, Reference
from headrace.benchmarks._contestants import Diffusers, Turns, engine_turns, race
from headrace.benchmarks._progress import bars
from headrace.engine import Engine, EngineSettings
from headrace.errors import HeadraceWarning
from headrace.evaluation.features import NearestPictures, recall
from headrace.models.pipelines.base import Pipeline
from headrace.plan import Plan
from headrace.request import Request
from headrace.techniques.block_caching.schedule import Schedule
from headrace.tuning.accelerated import accelerated
from headrace.tuning.settings import Settings

STEPS, GUIDANCE, SOLVER = (16, 20, 24, 30), (4.0, 5.0, 6.0), "dpm++2m"
SLOTS = 32
DIFFUSERS, PLAIN = "diffusers, one by one", "Headrace, continuous batching"


@dataclass(frozen=True)
class Service:
    """One way to serve all requests: images a second over those of diffusers, and recall where there is data."""

    name: str
    images_per_second: float
    speedup: float
    recall: float | None


def measure_combination(
    pipeline: Pipeline,
    model: str,
    captions: Sequence[str],
    combinations: Mapping[str, tuple[Settings, Schedule | None]],
    reference: Reference | None,
) -> list[Service]:
    """Requests of mixed steps and guidance scales through diffusers, the engine, and the engine with each combination.

    Everything from the prompt to the pixels is timed, all in turns. The steps of `combinations` count for nothing: each
    request keeps its own.
    """
    requests = [
        Request(
            prompt=caption,
            solver=SOLVER,
            steps=STEPS[number % len(STEPS)],
            guidance_scale=GUIDANCE[number % len(GUIDANCE)],
            seed=number,
        )
        for number, caption in enumerate(captions)
    ]
    diffusers = Diffusers(model, pipeline.device.type)
    pictures: dict[str, dict[int, Pixels]] = {name: {} for name in (DIFFUSERS, PLAIN, *combinations)}
    plain = (Settings.parse({"solver": SOLVER}), None)
    for one in (plain, *combinations.values()):
        _exhaust(_turns(pipeline, one, requests[:2], {}))
    _exhaust(diffusers.one_by_one(requests[:1], {}))
    turns: dict[str, Turns] = {DIFFUSERS: diffusers.one_by_one(requests, pictures[DIFFUSERS])}
    turns |= {
        name: _turns(pipeline, one, requests, pictures[name]) for name, one in ((PLAIN, plain), *combinations.items())
    }
    with bars() as show:
        seconds = race(turns, pipeline.device.type, show)
    found = [_recall(made, reference) for made in pictures.values()]
    return [
        Service(name, len(requests) / spent, seconds[DIFFUSERS] / spent, share)
        for (name, spent), share in zip(seconds.items(), found, strict=True)
    ]


def _turns(
    pipeline: Pipeline,
    combination: tuple[Settings, Schedule | None],
    requests: Sequence[Request],
    pictures: dict[int, Pixels],
) -> Turns:
    """A round a turn. The pipeline has the combination's cache in its own turns only."""
    settings, schedule = combination
    with accelerated(pipeline, settings, schedule) as decide:
        engine = Engine(pipeline, EngineSettings(slots=SLOTS), decide=_silently(decide))
        plans = [engine.plan(request) for request in requests]
        rounds = engine_turns(engine, requests, pictures, plans)
    while True:
        with accelerated(pipeline, settings, schedule):
            share = next(rounds, None)
        if share is None:
            return
        yield share


def _silently(decide: Callable[[Plan], Plan]) -> Callable[[Plan], Plan]:
    """Other step counts than the schedule's take it by normalised time, which warns each time."""

    def decided(plan: Plan) -> Plan:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HeadraceWarning)
            return decide(plan)

    return decided


def _exhaust(turns: Turns) -> None:
    for _ in turns:
        pass


def _recall(made: Mapping[int, Pixels], reference: Reference | None) -> float | None:
    if reference is None:
        return None
    pixels = np.stack([made[number] for number in range(len(made))])
    nearest = NearestPictures(reference.data.images.permute(0, 2, 3, 1).contiguous().numpy())
    return recall(nearest.ranks(pixels, reference.chosen), 1)
