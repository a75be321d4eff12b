"""Student and teacher on the student's trajectory: the gradient, what is learnt, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reuse import artefact_of, request, start_of, with_random_layers

from headrace.engine import Engine
from headrace.errors import CalibrationError
from headrace.models.pipelines.loading import load
from headrace.techniques.block_caching.network import enable
from headrace.techniques.block_caching.scale_shift import ScaleShift, block_channels
from headrace.techniques.block_caching.scale_shift_distillation import Distillation

KINDS = ["sd1", "pixart", "ddpm-classes"]


def distillation(folder, kind, dtype=torch.float32, **settings):
    """A pipeline with a schedule, its distillation, untrained layers, and the request."""
    pipeline, asked = load(folder, dtype=dtype), request(kind, **settings)
    artefact = artefact_of(pipeline, asked, period=3)
    decide = enable(pipeline, artefact)
    plan = Engine(pipeline, decide=decide).plan(asked)
    layers = ScaleShift(block_channels(pipeline.network, artefact.blocks))
    return pipeline, Distillation(pipeline, plan, pipeline.size(asked)), layers, asked


@pytest.mark.parametrize("kind", KINDS)
def test_it_unrolls_the_trajectories_that_the_engine_runs(tiny_model, kind):
    pipeline, own, layers, asked = distillation(tiny_model(kind), kind, seed=5)
    start = start_of(pipeline, asked, [5])
    plain = pipeline.decode(own.cached(start)).numpy()[0]
    uncached = pipeline.decode(own.uncached(start)).numpy()[0]
    [expected] = Engine(pipeline, decide=lambda plan: own.plan).generate([asked])
    assert np.abs(plain.astype(int) - expected.pixels.astype(int)).max() <= 1
    [expected] = Engine(pipeline).generate([asked])
    assert np.abs(uncached.astype(int) - expected.pixels.astype(int)).max() <= 1
    assert not np.array_equal(plain, uncached)
    with torch.no_grad():
        student = own.distil(start, layers)
    assert torch.equal(student.final, own.cached(start))  # untrained layers change nothing
    assert student.loss > 0
    assert not student.loss.requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_the_whole_graph(tiny_model, kind):
    pipeline, own, layers, asked = distillation(tiny_model(kind), kind)
    with_random_layers(layers, 0.005)
    start = start_of(pipeline, asked, [1, 2])
    losses = []

    def evaluate(row, rows):
        """Student and teacher as they stand in the paper, with the graph of all rows."""
        pipeline.row_cache.adjustment = layers
        with torch.enable_grad():
            output = pipeline.denoise(rows)
            if not own.plan.compute[row].all():
                losses.append((output - pipeline.evaluate(rows)).square().mean())
        return output.detach()

    with torch.no_grad():
        own.lockstep.run(start, evaluate)
    pipeline.row_cache.adjustment = None
    expected_loss = torch.stack(losses).mean()
    expected = torch.autograd.grad(expected_loss, list(layers.parameters()))
    found = own.distil(start, layers)
    found.loss.backward()
    assert found.loss.item() == pytest.approx(expected_loss.item(), rel=1e-5)
    assert len(losses) == int((~own.plan.compute.all(axis=1)).sum()) == 2
    for parameter, wanted in zip(layers.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, wanted, rtol=1e-3, atol=1e-4 * wanted.abs().max().item())
        assert wanted.abs().max() > 0
    assert all(parameter.grad is None for parameter in pipeline.network.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_learning_lowers_the_loss_and_the_distance_to_the_uncached_latents(tiny_model, kind):
    pipeline, own, layers, asked = distillation(tiny_model(kind), kind)
    held_out = start_of(pipeline, asked, [100, 101, 102])
    uncached, plain = own.uncached(held_out), own.cached(held_out)
    optimizer = torch.optim.AdamW(layers.parameters(), lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0)
    with torch.no_grad():
        before = own.distil(held_out, layers).loss
    for step in range(20):
        own.distil(start_of(pipeline, asked, [2 * step, 2 * step + 1]), layers).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        after = own.distil(held_out, layers)
    assert after.loss < 0.98 * before
    assert (after.final - uncached).norm() < 0.98 * (plain - uncached).norm()


def test_layers_of_a_network_in_bfloat16_learn_in_float32(tiny_model):
    pipeline, own, layers, asked = distillation(tiny_model("sd1"), "sd1", torch.bfloat16)
    own.distil(start_of(pipeline, asked, [1]), layers).loss.backward()
    for parameter in layers.parameters():
        assert parameter.grad.dtype == torch.float32
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().max() > 0


def test_a_schedule_that_reuses_nothing_is_refused(tiny_model):
    pipeline, asked = load(tiny_model("sd1")), request("sd1")
    plan = Engine(pipeline, decide=enable(pipeline, artefact_of(pipeline, asked, period=1))).plan(asked)
    with pytest.raises(CalibrationError, match="reuses nothing"):
        Distillation(pipeline, plan, pipeline.size(asked))


def test_a_pipeline_without_the_cache_is_refused(tiny_model):
    pipeline, own, _, asked = distillation(tiny_model("sd1"), "sd1")
    with pytest.raises(CalibrationError, match="caches no blocks"):
        Distillation(load(tiny_model("sd1")), own.plan, pipeline.size(asked))
