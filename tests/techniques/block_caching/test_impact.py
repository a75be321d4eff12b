"""What a stale block does to the latents."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from headrace.engine import Engine
from headrace.errors import CalibrationError
from headrace.models.blocks import find_blocks
from headrace.models.pipelines.loading import load
from headrace.models.row_cache import RowCache
from headrace.plan import Plan
from headrace.request import Request
from headrace.techniques.block_caching.impact import displacement, measure_impact


@pytest.fixture
def pipeline(tiny_model):
    return load(tiny_model("sd1"))


def requests(count):
    return [
        Request(prompt="red apple", solver="dpm++2m", steps=4, guidance_scale=3.0, seed=seed) for seed in range(count)
    ]


def test_impact_is_the_displacement_of_the_next_latents(pipeline):
    """Against the engine: one block stale in one row, and the final latents where that row is the last."""
    [asked] = requests(1)
    blocks = find_blocks(pipeline.network, "transformer")
    plan = Engine(pipeline).plan(asked)
    impact = measure_impact(pipeline, plan, [asked], blocks)
    assert impact.shape == (len(plan) - 1, len(blocks))
    assert (impact > 0).all()
    pipeline.row_cache = RowCache(pipeline.network, blocks)
    final = []
    for block in (None, 1):
        compute = np.ones((len(plan), len(blocks)), bool)
        if block is not None:
            compute[-1, block] = False
        engine = Engine(pipeline)
        engine.submit(asked, plan.with_columns(compute=compute))
        for _ in range(len(plan) - 1):
            engine.step()
        [slot] = engine._pool.resident
        engine.step()
        final.append(slot.latents.clone())
    moved = (final[1] - final[0]).square().mean().sqrt().item()
    assert moved == pytest.approx(impact[-1, 1], rel=1e-4)


def test_batches_change_nothing(pipeline):
    blocks = find_blocks(pipeline.network, "resnet")
    plan = Engine(pipeline).plan(requests(1)[0])
    together = measure_impact(pipeline, plan, requests(3), blocks, batch=8)
    told = []
    apart = measure_impact(pipeline, plan, requests(3), blocks, batch=2, progress=told.append)
    assert together == pytest.approx(apart, rel=1e-3)
    assert sum(told) == 3 * len(plan)
    assert pipeline.row_cache is None
    assert find_blocks(pipeline.network, "resnet") == blocks


def test_a_row_s_weight_is_the_solver_s():
    plan = Plan(
        timestep=[2.0, 1.0],
        a=[1.0, 1.0],
        b=[[0.5, 0.1], [0.25, 0.0]],
        q=[2.0, -4.0],
        c=[0.0, 3.0],
        input_scale=[1, 0.5],
    )
    assert displacement(plan).tolist() == [0.5 * 2.0 * 0.5, abs(-4.0 * 0.25 + 3.0)]


def test_a_pipeline_that_caches_already_is_refused(pipeline):
    blocks = find_blocks(pipeline.network, "transformer")
    plan = Engine(pipeline).plan(requests(1)[0])
    pipeline.row_cache = RowCache(pipeline.network, blocks)
    with pytest.raises(CalibrationError, match="caches blocks already"):
        measure_impact(pipeline, plan, requests(1), blocks)
    assert not torch.is_inference_mode_enabled()
