"""Requests whose rows change their latent size, each by its own plan, in one continuous batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from fake_pipeline import FakePipeline
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.engine import Engine, EngineSettings
from headrace.errors import CapacityError, PlanError
from headrace.models.blocks import find_blocks
from headrace.models.lockstep import Lockstep, Start
from headrace.models.pipelines.loading import load
from headrace.models.row_cache import attached
from headrace.plan.crossing import Crossing
from headrace.request import Request
from headrace.techniques.postdiff.schedule import mixed_resolution

TEXT = {"prompt": "red apple"}
CONDITIONS = {"sd1": TEXT, "sdxl": TEXT, "pixart": TEXT, "pixart-128": TEXT, "ddpm": {}, "ldm": {}}
CONDITIONS |= {"ddpm-classes": {"class_label": 1}, "dit": {"class_label": 1}}


class SizedPipeline(FakePipeline):
    """Notes the latent size of every call, and its network looks at neighbours, so that a size matters."""

    def __init__(self):
        super().__init__(size=32)
        self.sizes = []

    def evaluate(self, rows):
        self.sizes.append((len(rows), *rows.sample.shape[-2:]))
        return super().evaluate(rows) - 0.3 * torch.tanh(rows.sample.roll(1, -1))


def asked(**settings):
    return Request(prompt="red apple", **({"solver": "dpm++2m", "steps": 6} | settings))


def run_to_the_end(engine):
    while engine.busy:
        engine.step()
    return {result.number: result for result in engine.collect()}


def alone(pipeline, request, plan):
    engine = Engine(pipeline)
    ticket = engine.submit(request, plan)
    return run_to_the_end(engine)[ticket].pixels


@st.composite
def crowds(draw):
    """What arrives, when, with which share of its rows small and how small, and what is cancelled."""
    count = draw(st.integers(2, 7))
    return [
        {
            "round": draw(st.integers(0, 5)),
            "request": asked(
                steps=draw(st.integers(1, 6)),
                solver=draw(st.sampled_from(["ddim", "dpm++2m", "dpm++3m", "euler-a", "heun", "unipc", "lms", "sa"])),
                guidance_scale=draw(st.sampled_from([1.0, 3.0])),
                height=draw(st.sampled_from([16, 32])),
                seed=draw(st.integers(0, 3)),
            ),
            "share": draw(st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0])),
            "scale": draw(st.sampled_from([0.375, 0.5, 0.75])),
            "way": draw(st.sampled_from(list(Crossing))),
            "cancel_after": draw(st.one_of(st.none(), st.none(), st.integers(0, 4))),
        }
        for _ in range(count)
    ]


def planned(engine, one):
    return mixed_resolution(engine.plan(one["request"]), one["share"], one["scale"], one["way"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(crowd=crowds(), slots=st.integers(2, 6), max_rows=st.integers(1, 8))
def test_batched_equals_alone_whatever_joins_leaves_or_is_cancelled(crowd, slots, max_rows):
    engine = Engine(SizedPipeline(), EngineSettings(slots=slots, max_rows=max_rows))
    tickets, results, started = {}, {}, {}
    for turn in range(100):
        for index, one in enumerate(crowd):
            if one["round"] == turn:
                tickets[index] = engine.submit(one["request"], planned(engine, one))
                started[index] = turn
            if one["cancel_after"] is not None and started.get(index, 999) + one["cancel_after"] == turn:
                engine.cancel(tickets[index])
        engine.step()
        results.update({result.number: result for result in engine.collect()})
    assert not engine.busy
    for index, one in enumerate(crowd):
        result = results.get(tickets[index])
        if result is None:
            assert one["cancel_after"] is not None
            continue
        assert result.error is None, result.error
        expected = alone(SizedPipeline(), one["request"], planned(engine, one))
        assert np.abs(result.pixels.astype(int) - expected.astype(int)).max() <= 1, one


@pytest.mark.parametrize("kind", ["sd1", "sdxl", "pixart", "ddpm-classes"])
def test_a_share_of_zero_changes_no_bit(tiny_pipeline, kind):
    pipeline = tiny_pipeline(kind)
    requests = [Request(steps=4, seed=seed, solver="dpm++2m", **CONDITIONS[kind]) for seed in range(2)]
    plain = Engine(pipeline).generate(requests)
    none = Engine(pipeline, decide=lambda plan: mixed_resolution(plan, 0.0, 0.5)).generate(requests)
    assert all(np.array_equal(one.pixels, other.pixels) for one, other in zip(plain, none, strict=True))


def test_small_rows_are_a_call_of_their_own():
    pipeline = SizedPipeline()
    engine = Engine(pipeline)
    for seed in range(2):
        request = asked(steps=4, seed=seed, guidance_scale=3.0)
        engine.submit(request, mixed_resolution(engine.plan(request)))
    request = asked(steps=4, guidance_scale=1.0)
    engine.submit(request)
    run_to_the_end(engine)
    assert sorted(pipeline.sizes[:4]) == [(1, 16, 16), (1, 16, 16), (4, 8, 8), (4, 8, 8)]
    assert pipeline.sizes[4:] == [(5, 16, 16)] * 2


@pytest.mark.parametrize("kind", sorted(CONDITIONS))
def test_every_family_takes_small_rows_and_the_plain_loop_gives_the_same(tiny_pipeline, kind):
    pipeline = tiny_pipeline(kind)
    size = {"height": 64, "width": 64} if kind == "pixart-128" else {}
    requests = [Request(steps=4, seed=seed, solver="dpm++2m", **CONDITIONS[kind], **size) for seed in range(2)]
    engine = Engine(pipeline, decide=mixed_resolution)
    results = engine.generate(requests)
    with torch.inference_mode():
        lockstep = Lockstep(pipeline, engine.plan(requests[0]), pipeline.size(requests[0]))
        pixels = pipeline.decode(lockstep.run(Start.of(pipeline, requests))).numpy()
    for result, own in zip(results, pixels, strict=True):
        assert result.error is None, result.error
        assert np.abs(result.pixels.astype(int) - own.astype(int)).max() <= 1


@pytest.mark.parametrize(("kind", "name"), [("sdxl", "time_ids"), ("pixart-128", "resolution")])
def test_small_rows_are_told_what_a_request_of_their_size_is_told(tiny_model, kind, name):
    pipeline = load(tiny_model(kind))
    told = []
    pipeline.network.register_forward_pre_hook(
        lambda module, given, named: told.append(named["added_cond_kwargs"][name]), with_kwargs=True
    )
    engine = Engine(pipeline, decide=mixed_resolution)
    engine.generate([Request(steps=2, height=64, width=64, solver="ddim", **TEXT)])
    for rows, side in zip(told, (32, 64), strict=True):
        [expected] = pipeline.encode([Request(height=side, width=side, **TEXT)])
        assert all(torch.equal(row, expected.positive[name]) for row in rows)


def test_sizes_are_rounded_to_what_the_network_takes(tiny_pipeline):
    unet, transformer = tiny_pipeline("sd1"), tiny_pipeline("pixart")
    assert unet.scaled_shape((4, 8, 8), 0.5) == (4, 4, 4)
    assert unet.scaled_shape((4, 16, 9), 0.375) == (4, 6, 4)
    assert transformer.scaled_shape((4, 12, 8), 0.6) == (4, 8, 4)
    assert unet.scaled_shape((4, 9, 5), 1.0) == (4, 9, 5)


@pytest.mark.parametrize(("height", "scale"), [(16, 0.5), (64, 0.95)])
def test_a_picture_that_cannot_shrink_is_refused_before_any_work(tiny_pipeline, height, scale):
    engine = Engine(tiny_pipeline("sd1"))
    request = Request(steps=4, solver="ddim", height=height, width=64, **TEXT)
    plan = mixed_resolution(engine.plan(request), 0.5, scale)
    with pytest.raises(PlanError, match=rf"rows at scale {scale:g} of latents of {height // 8}x8.*multiples of 2"):
        engine.submit(request, plan)
    assert not engine.busy


def test_a_change_of_size_that_the_solver_is_not_begun_anew_for_is_refused():
    engine = Engine(SizedPipeline())
    request = asked(solver="dpm++2m", steps=4)
    with pytest.raises(PlanError, match="still reads a register"):
        engine.submit(request, engine.plan(request).with_columns(scale=[0.5, 0.5, 1.0, 1.0]))


def test_bytes_are_those_of_the_largest_rows(tiny_model):
    pipeline = load(tiny_model("sd1"))
    request = Request(steps=6, solver="dpm++2m", **TEXT)
    with attached(pipeline, find_blocks(pipeline.network, "transformer")) as cache:
        engine = Engine(pipeline)
        plan = mixed_resolution(engine.plan(request))
        blocks = len(cache.blocks)
        compute = np.ones((6, blocks), bool)
        compute[1] = False  # reused at half size only
        small = plan.with_columns(compute=compute)
        compute[4] = False  # and at full size
        both = plan.with_columns(compute=compute)
        latents = 4 * math.prod((4, 8, 8)) * 2  # float32, with one register
        for decided, shape in ((small, (4, 4, 4)), (both, (4, 8, 8))):
            needed = latents + cache.nbytes(shape, np.ones((2, blocks), bool))
            Engine(pipeline, EngineSettings(slots=4, memory_bytes=needed)).submit(request, decided)
            with pytest.raises(CapacityError):
                Engine(pipeline, EngineSettings(slots=4, memory_bytes=needed - 1)).submit(request, decided)


def test_blocks_kept_at_another_size_are_not_reused(tiny_model):
    pipeline = load(tiny_model("sd1"))
    request = Request(steps=4, solver="dpm++2m", **TEXT)
    with attached(pipeline, find_blocks(pipeline.network, "transformer")) as cache:
        engine = Engine(pipeline)
        plan = mixed_resolution(engine.plan(request))
        compute = np.ones((4, len(cache.blocks)), bool)
        compute[[1, 3]] = False
        ticket = engine.submit(request, plan.with_columns(compute=compute))
        assert run_to_the_end(engine)[ticket].error is None
        compute[2] = False
        with pytest.raises(PlanError, match=r"scale was 0\.5 and not 1"):
            engine.submit(request, plan.with_columns(compute=compute))


def test_a_whole_picture_below_full_size_has_the_size_asked_for():
    pipeline = SizedPipeline()
    result = Engine(pipeline, decide=lambda plan: mixed_resolution(plan, 1.0, 0.5)).generate([asked()])[0]
    assert result.pixels.shape == (32, 32, 3)
    assert {size[1:] for size in pipeline.sizes} == {(8, 8)}


def test_the_layout_is_that_of_the_plain_picture():
    """Small rows start from the plain picture's noise, seen coarsely: nearer to it than to another seed's picture."""
    pipeline = SizedPipeline()
    requests = [asked(solver="ddim", seed=seed, steps=10) for seed in range(4)]
    plain = [result.pixels.astype(float) for result in Engine(pipeline).generate(requests)]
    mixed = [
        result.pixels.astype(float)
        for result in Engine(pipeline, decide=lambda plan: mixed_resolution(plan, 0.3, 0.5)).generate(requests)
    ]
    for number, own in enumerate(mixed):
        errors = [((own - other) ** 2).mean() for other in plain]
        assert np.argmin(errors) == number
