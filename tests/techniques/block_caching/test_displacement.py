"""How far the latents are displaced where blocks reuse together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from headrace.engine import Engine
from headrace.errors import CalibrationError
from headrace.models.blocks import find_blocks
from headrace.models.lockstep import Lockstep, Start
from headrace.models.pipelines.loading import load
from headrace.models.row_cache import RowCache
from headrace.plan import Plan
from headrace.request import Request
from headrace.techniques.block_caching.displacement import measure_displacement, row_weights


@pytest.fixture
def pipeline(tiny_model):
    return load(tiny_model("sd1"))


def requests(count):
    return [
        Request(prompt="red apple", solver="dpm++2m", steps=4, guidance_scale=3.0, seed=seed) for seed in range(count)
    ]


def test_it_is_how_far_the_next_latents_are_moved(pipeline):
    """Against the engine: all blocks reuse in the last row, values that are one row and two rows old."""
    [asked] = requests(1)
    blocks = find_blocks(pipeline.network, "transformer")
    plan = Engine(pipeline).plan(asked)
    found = measure_displacement(pipeline, plan, [asked], blocks)
    assert found.blocks == blocks
    assert found.values.shape == (3, 3)
    assert (np.tril(found.values) > 0)[np.tril_indices(3)].all()
    assert not np.triu(found.values, 1).any()
    pipeline.row_cache = RowCache(pipeline.network, blocks)
    for age in (1, 2):
        moved = np.subtract(last_latents(pipeline, asked, plan, age), last_latents(pipeline, asked, plan, 0))
        assert np.sqrt(np.square(moved).mean()) == pytest.approx(found.values[2, age - 1], rel=1e-4)


def last_latents(pipeline, asked, plan, age):
    """Latents behind the last row, whose blocks take the values of `age` rows before; all rows before are whole."""
    blocks = len(pipeline.row_cache.blocks)
    compute, keep = np.ones((len(plan), blocks), bool), np.zeros((len(plan), blocks), bool)
    keep[len(plan) - 1 - age] = compute[-1, :] = age > 0
    compute[-1, :] = age == 0

    def decided(row, rows):
        columns = {
            name: values[row][None].repeat(len(rows), 0) for name, values in (("compute", compute), ("keep", keep))
        }
        return pipeline.denoise(replace(rows, columns={**rows.columns, **columns}))

    with torch.inference_mode():
        return Lockstep(pipeline, plan, pipeline.size(asked)).run(Start.of(pipeline, [asked]), decided).numpy()


def test_batches_change_nothing(pipeline):
    blocks = find_blocks(pipeline.network, "resnet")
    plan = Engine(pipeline).plan(requests(1)[0])
    together = measure_displacement(pipeline, plan, requests(3), blocks, batch=8).values
    told = []
    apart = measure_displacement(pipeline, plan, requests(3), blocks, batch=2, progress=told.append).values
    assert together == pytest.approx(apart, rel=1e-3)
    assert measure_displacement(pipeline, plan, requests(3), blocks, 8, reach=1).values == pytest.approx(
        apart[:, :1], rel=1e-3
    )
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
    assert row_weights(plan).tolist() == [0.5 * 2.0 * 0.5, abs(-4.0 * 0.25 + 3.0)]


def test_a_pipeline_that_caches_already_is_refused(pipeline):
    blocks = find_blocks(pipeline.network, "transformer")
    plan = Engine(pipeline).plan(requests(1)[0])
    pipeline.row_cache = RowCache(pipeline.network, blocks)
    with pytest.raises(CalibrationError, match="caches blocks already"):
        measure_displacement(pipeline, plan, requests(1), blocks)
    assert not torch.is_inference_mode_enabled()
