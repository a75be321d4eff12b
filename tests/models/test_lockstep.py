"""The plain loop of calibration gives the engine's pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from headrace.engine import Engine
from headrace.models.lockstep import Lockstep, Start
from headrace.request import Request


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("sd1", {"prompt": "red apple", "guidance_scale": 4.0, "solver": "dpm++2m"}),
        ("sd1", {"prompt": "red apple", "guidance_scale": 1.0, "solver": "euler-a"}),
        ("ddpm-classes", {"class_label": 2}),
        ("dit", {"class_label": 2, "solver": "heun"}),
    ],
)
def test_pictures_are_those_of_the_engine(tiny_pipeline, kind, asked):
    pipeline = tiny_pipeline(kind)
    requests = [Request(steps=4, seed=seed, **asked) for seed in range(3)]
    engine = Engine(pipeline)
    expected = engine.generate(requests)
    lockstep = Lockstep(pipeline, engine.plan(requests[0]), pipeline.default_size)
    with torch.inference_mode():
        pixels = pipeline.decode(lockstep.run(Start.of(pipeline, requests))).numpy()
    for result, own in zip(expected, pixels, strict=True):
        assert np.abs(result.pixels.astype(int) - own.astype(int)).max() <= 1
