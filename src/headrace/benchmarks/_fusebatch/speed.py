"""Images a second of each variant on the engine, taken in turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from headrace.benchmarks._contestants import race
from headrace.benchmarks._progress import bars
from headrace.engine import Engine, EngineSettings
from headrace.models.pipelines.base import Pipeline
from headrace.plan import Plan
from headrace.request import Request
from headrace.techniques.fusebatch.schedule import PAPER, Allocation, fuse, uniform

Decision = Callable[[Plan], Plan]
VANILLA = "vanilla"
ALLOCATIONS: dict[str, Allocation] = {VANILLA: uniform(1), "k2": uniform(2), "k4": uniform(4), "tfs": PAPER}


@dataclass(frozen=True)
class Load:
    """So many images of so many steps, resident all at once; a call has at most `rows` evaluations, or decodings."""

    images: int
    steps: int
    rows: int


@dataclass(frozen=True)
class Speed:
    """Seconds of each variant for the same load, and those of them that went into decoding."""

    load: Load
    seconds: dict[str, float]
    decoding: dict[str, float]

    @property
    def speedups(self) -> dict[str, float]:
        """Images a second over vanilla's."""
        return self.speedups_at(self.load.steps)

    def speedups_at(self, steps: int) -> dict[str, float]:
        """The same for another number of steps: decoding takes as long, denoising in proportion."""
        part = steps / self.load.steps
        seconds = {name: self.decoding[name] + part * (one - self.decoding[name]) for name, one in self.seconds.items()}
        return {name: seconds[VANILLA] / one for name, one in seconds.items() if name != VANILLA}


def pixel_speed(pipeline: Pipeline, load: Load) -> Speed:
    """Vanilla, K = 2, K = 4 and TFS: one model, and plans that choose its networks."""

    def deciding(allocation: Allocation) -> Decision:
        return lambda plan: fuse(plan, allocation)

    return _speed({name: (pipeline, deciding(one)) for name, one in ALLOCATIONS.items()}, load)


def latent_speed(pipelines: Mapping[str, Pipeline], load: Load) -> Speed:
    """From noise to pixels: a fused autoencoder makes K images of one request."""
    return _speed({name: (pipeline, None) for name, pipeline in pipelines.items()}, load)


def _speed(variants: Mapping[str, tuple[Pipeline, Decision | None]], load: Load) -> Speed:
    for name, one in variants.items():  # warms up: every network with as many rows, and every decoder
        if name != "tfs":
            deque(_turns(*one, replace(load, steps=1), {}, name), maxlen=0)
    decoding: dict[str, float] = {}
    with bars() as show:
        contestants = {name: _turns(*one, load, decoding, name) for name, one in variants.items()}
        seconds = race(contestants, next(iter(variants.values()))[0].device.type, show)
    return Speed(load, seconds, decoding)


@torch.inference_mode()
def _turns(
    pipeline: Pipeline, decide: Decision | None, load: Load, decoding: dict[str, float], name: str
) -> Iterator[float]:
    """A round of the engine a turn, to the last pixel; the time of decoding goes into `decoding`."""
    requests = load.images // pipeline.pictures
    settings = EngineSettings(
        slots=requests, max_rows=load.rows, decode_batch=min(requests, load.rows), synchronize_timings=True
    )
    engine = Engine(pipeline, settings, decide=decide)
    for seed in range(requests):
        engine.submit(Request(steps=load.steps, seed=seed))
    done, work = 0, requests * load.steps
    while engine.busy:
        done += engine.step().rows
        for result in engine.collect():
            if result.error is not None:
                raise result.error
        decoding[name] = engine.timings.decode_s
        yield done / work
