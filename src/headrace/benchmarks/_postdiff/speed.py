"""Part one: what the mechanisms are worth on real networks, one guided request at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from headrace.benchmarks._contestants import race
from headrace.benchmarks._postdiff.mechanisms import MECHANISMS, PLAIN, TOGETHER, mechanism
from headrace.benchmarks._progress import bars
from headrace.engine import Engine, EngineSettings
from headrace.models.pipelines.base import Pipeline
from headrace.request import Request
from headrace.tuning.accelerated import accelerated
from headrace.tuning.settings import Settings

SOLVER, GUIDANCE = "dpm++2m", 5.0


@dataclass(frozen=True)
class Speed:
    """Seconds of one guided trajectory by mechanism, taken in turns row by row; denoising alone.

    `paper`: by how much the paper's latency fell with all of them.
    """

    model: str
    pixels: int
    steps: int
    seconds: dict[str, float]
    paper: float

    @property
    def speedups(self) -> dict[str, float]:
        """Time of plain sampling over that of each mechanism."""
        return {name: self.seconds[PLAIN] / seconds for name, seconds in self.seconds.items() if name != PLAIN}

    @property
    def speedup(self) -> float:
        """All mechanisms together."""
        return self.speedups[TOGETHER]


def measure_speed(pipeline: Pipeline, pixels: int, steps: int, paper: float) -> Speed:
    """Each mechanism's trajectory of one request, `pixels` high and wide."""
    request = Request(
        prompt="red apple", solver=SOLVER, steps=steps, guidance_scale=GUIDANCE, height=pixels, width=pixels
    )
    settings = {name: mechanism(name, SOLVER, steps) for name in MECHANISMS}
    for one in (settings[PLAIN], settings[TOGETHER]):  # warms up: both sizes, and a row that reuses
        turns = _turns(pipeline, one, request.model_copy(update={"steps": 4}))
        for _ in turns:
            pass
    with bars() as show:
        contestants = {f"{pipeline.name}, {name}": _turns(pipeline, one, request) for name, one in settings.items()}
        seconds = race(contestants, pipeline.device.type, show)
    by_name = dict(zip(settings, seconds.values(), strict=True))
    return Speed(pipeline.name, pixels, steps, by_name, paper)


@torch.inference_mode()
def _turns(pipeline: Pipeline, settings: Settings, request: Request) -> Iterator[float]:
    """A row a turn. The pipeline has the settings' cache in its own turns only; kept values belong to the request."""
    with accelerated(pipeline, settings) as decide:
        engine = Engine(pipeline, EngineSettings(slots=1), decide=decide)
        engine.submit(request)
    rows = len(engine.plan(request)) if settings.plain else None
    done = 0
    while engine.busy:
        with accelerated(pipeline, settings):
            done += engine.step().rows
        for result in engine.collect():
            if result.error is not None:
                raise result.error
        yield done / (rows or request.steps)
