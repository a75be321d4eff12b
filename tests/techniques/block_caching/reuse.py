"""Tiny models with a cache schedule on them, made without measuring."""

from __future__ import annotations

import numpy as np
import torch

from headrace.engine import Engine, EngineSettings
from headrace.models.blocks import find_blocks
from headrace.models.lockstep import Start
from headrace.models.pipelines.fingerprint import pipeline_fingerprint
from headrace.request import Request
from headrace.techniques.block_caching.artefact import BlockCacheArtefact, solver_identity


def request(kind: str, **settings) -> Request:
    own = {"class_label": 1} if kind == "ddpm-classes" else {"prompt": "red apple", "guidance_scale": 3.0}
    return Request(**{**own, "steps": 4, "solver": "ddim", **settings})


def artefact_of(pipeline, asked: Request, period: int = 2, **changes) -> BlockCacheArtefact:
    """A schedule that evaluates every transformer block each `period` rows."""
    plan = Engine(pipeline, EngineSettings(slots=1)).plan(asked)
    blocks, rows = find_blocks(pipeline.network, "transformer"), len(plan)
    nothing = ((0.0,) * len(blocks),) * (rows - 1)
    letters = tuple(("." if row % period else "#") * len(blocks) for row in range(rows))
    values = {
        "model": pipeline.name, "weights": pipeline_fingerprint(pipeline), "solver": solver_identity(plan),
        "steps": asked.steps, "solver_name": asked.solver, "guidance_scale": pipeline.guidance_scale(asked),
        "images": 1, "delta": 0.5, "saving": 0.2, "blocks": blocks, "timesteps": tuple(plan.timestep.tolist()),
        "compute": letters, "profiled": blocks, "kinds": ("transformer",) * len(blocks),
        "macs": (1,) * len(blocks), "network_macs": 10, "change": nothing, "deviation": nothing,
    }  # fmt: skip
    return BlockCacheArtefact(**{**values, **changes})


def start_of(pipeline, asked: Request, seeds: list[int]) -> Start:
    """Trajectories of one request from several seeds."""
    with torch.no_grad():
        return Start.of(pipeline, [asked.model_copy(update={"seed": seed}) for seed in seeds])


def with_random_layers(scale_shift, deviation: float = 0.02):
    """The same module, no longer the identity."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in scale_shift.parameters():
            parameter.normal_(std=deviation, generator=generator)
    return scale_shift


def timesteps_of(artefact) -> np.ndarray:
    return np.array(artefact.timesteps)
