"""Images a second under mixed traffic: one decoder for all rows or one for each stage, the encoder shared or not."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers import DDPMPipeline, UNet2DModel
from typing_extensions import override

from headrace.benchmarks._contestants import Turns, race
from headrace.benchmarks._multistage.sampling import SOLVER, STEPS, linear_schedule
from headrace.benchmarks._progress import bars
from headrace.engine import Engine, EngineSettings
from headrace.models.denoiser import Rows
from headrace.models.pipelines.pixel import PixelPipeline
from headrace.request import Request
from headrace.techniques.multistage.network import MultistageUNet2DModel
from headrace.techniques.multistage.schedule import Stages

UNIFIED, SHARED, APART = "unified", "multistage, one call", "multistage, a call for each stage"
# A request comes every other round: some ten are under way, at all their steps.
_GAP = 2


@dataclass(frozen=True)
class Service:
    """What one network came to: requests served a second, rows and stages of a mean call of the engine."""

    images_per_second: float
    rows_per_call: float
    stages_per_call: float


class _Served(PixelPipeline):
    """Remembers the stages of each call; `apart` calls the network for each of them, as a batch of one stage does."""

    def __init__(self, network: torch.nn.Module, name: str, apart: bool = False) -> None:
        super().__init__(DDPMPipeline(unet=network, scheduler=linear_schedule()), name)
        self.apart = apart
        self.calls: list[np.ndarray] = []

    @override
    def evaluate(self, rows: Rows) -> torch.Tensor:
        stages = np.asarray(rows.columns.get("stage", np.zeros(len(rows), np.int64)))
        self.calls.append(stages)
        if not self.apart:
            return super().evaluate(rows)
        output = torch.empty_like(rows.sample)
        for stage in np.unique(stages):
            places = np.flatnonzero(stages == stage)
            where = torch.from_numpy(places).to(rows.sample.device)
            part = replace(
                rows,
                sample=rows.sample[where],
                timestep=rows.timestep[where],
                branches=rows.branches[places],
                columns={name: values[places] for name, values in rows.columns.items()},
                caches=(),
            )
            output[where] = super().evaluate(part)
        return output


def measure(
    unet: Mapping[str, Any], decoders: Sequence[int], stages: Stages, requests: int, device: str
) -> dict[str, Service]:
    """All three, in small turns beside each other, on networks of random weights. Raises `ModelError`."""
    settings = dict(unet)
    networks = {
        UNIFIED: UNet2DModel(**settings),
        SHARED: MultistageUNet2DModel(settings, list(decoders), list(stages.boundaries)),
    }
    networks[APART] = networks[SHARED]
    pipelines = {
        name: _Served(network.to(device).eval().requires_grad_(False), name, name == APART)
        for name, network in networks.items()
    }
    engines = {name: Engine(pipeline, EngineSettings()) for name, pipeline in pipelines.items()}
    for engine in engines.values():  # what is only done once is not timed
        engine.generate([Request(steps=1, solver=SOLVER)])
    for pipeline in pipelines.values():
        pipeline.calls.clear()
    asked = [Request(seed=seed, steps=STEPS, solver=SOLVER) for seed in range(requests)]
    with bars() as show:
        seconds = race({name: traffic(engine, asked) for name, engine in engines.items()}, device, show)
    return {
        name: Service(
            requests / seconds[name],
            float(np.mean([len(call) for call in pipeline.calls])),
            float(np.mean([len(set(call.tolist())) for call in pipeline.calls])),
        )
        for name, pipeline in pipelines.items()
    }


def traffic(engine: Engine, requests: Sequence[Request], gap: int = _GAP) -> Turns:
    """Requests that come one after another, so that those under way are at different steps; a turn is a round.

    Raises what a request failed with.
    """
    waiting = deque(requests)
    work = sum(len(engine.plan(request)) for request in requests)
    rounds = done = 0
    while waiting or engine.busy:
        if waiting and rounds % gap == 0:
            engine.submit(waiting.popleft())
        done += engine.step().rows
        for result in engine.collect():
            if result.error is not None:
                raise result.error
        rounds += 1
        yield done / work
