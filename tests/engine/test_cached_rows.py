"""Requests that reuse blocks, each by its own schedule, in one continuous batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.engine import Engine, EngineSettings
from headrace.errors import CapacityError, HeadraceError, PlanError
from headrace.models.blocks import find_blocks
from headrace.models.nesting import consistent
from headrace.models.pipelines.loading import load
from headrace.models.row_cache import RowCache
from headrace.request import Request

KINDS = ["sd1", "pixart", "ddpm-classes"]
# Blocks of one kind, or of all kinds inside one another, with cross-attention reused from the conditional branch.
CACHED = {
    "transformers": ("transformer",),
    "everything": ("transformer", "resnet", "cross_attention", "branch"),
}
SOURCES = {"cross_attention": "conditional"}


@pytest.fixture(scope="module")
def cached(tiny_model):
    """Kind and what is cached -> a pipeline with these blocks cached, its own for this module."""
    pipelines = {}

    def pipeline(kind, what="transformers"):
        if (kind, what) not in pipelines:
            loaded = pipelines[kind, what] = load(tiny_model(kind))
            blocks = tuple(path for one in CACHED[what] for path in find_blocks(loaded.network, one))
            loaded.row_cache = RowCache(loaded.network, blocks, sources=SOURCES)
        return pipelines[kind, what]

    return pipeline


def request(kind, **settings):
    own = {"dit": {"class_label": 1}, "ddpm-classes": {"class_label": 1}, "ldm": {}}.get(kind, {"prompt": "red apple"})
    return Request(**own, **settings)


def with_random_reuse(plan, blocks, seed, share=0.5, inside=None):
    """The plan with a random schedule; rows where guidance comes on evaluate everything."""
    compute = np.random.default_rng(seed).random((len(plan), blocks)) >= share
    guided = plan.guidance != 1
    compute[0] = True
    compute[1:][guided[1:] & ~guided[:-1]] = True
    return plan.with_columns(compute=compute if inside is None else consistent(compute, inside))


def dropped(plan, row):
    """Without guidance from this row on."""
    scale = plan.guidance.copy()
    scale[row:] = 1.0
    return plan.with_columns(guidance=scale)


def pictures(engine):
    while engine.busy:
        engine.step()
    return {result.number: result for result in engine.collect()}


@pytest.mark.parametrize("what", CACHED)
@pytest.mark.parametrize("kind", KINDS)
def test_schedules_that_evaluate_everything_change_no_bit(cached, tiny_pipeline, kind, what):
    asked = [request(kind, steps=4, seed=seed) for seed in range(3)]
    plain = Engine(tiny_pipeline(kind)).generate(asked)
    pipeline = cached(kind, what)
    engine = Engine(pipeline, decide=lambda plan: with_random_reuse(plan, len(pipeline.row_cache.blocks), 0, share=0))
    for result, expected in zip(engine.generate(asked), plain, strict=True):
        assert result.plan.compute.all()
        assert result.plan.blocks == len(pipeline.row_cache.blocks)
        assert np.array_equal(result.pixels, expected.pixels)
    for result, expected in zip(Engine(pipeline).generate(asked), plain, strict=True):  # no decision at all
        assert np.array_equal(result.pixels, expected.pixels)


@st.composite
def crowds(draw):
    """What arrives, when, with which plan, and what is cancelled."""
    count = draw(st.integers(2, 6))
    return [
        {
            "round": draw(st.integers(0, 5)),
            "steps": draw(st.integers(2, 6)),
            "guidance_scale": draw(st.sampled_from([1.0, 3.0, 7.5])),
            "size": draw(st.sampled_from([(64, 64), (64, 128)])),
            "drop_at": draw(st.integers(1, 6)),
            "schedule": draw(st.one_of(st.none(), st.integers(0, 100))),
            "cancel_after": draw(st.one_of(st.none(), st.none(), st.integers(0, 3))),
            "seed": draw(st.integers(0, 3)),
        }
        for _ in range(count)
    ]


def planned(engine, one):
    height, width = one["size"]
    asked = request(
        "sd1",
        steps=one["steps"],
        guidance_scale=one["guidance_scale"],
        seed=one["seed"],
        height=height,
        width=width,
        solver="ddim",
    )
    plan = dropped(engine.plan(asked), one["drop_at"])
    if one["schedule"] is not None:
        cache = engine.pipeline.row_cache
        plan = with_random_reuse(plan, len(cache.blocks), one["schedule"], inside=cache.inside)
    return asked, plan


@pytest.mark.parametrize("what", CACHED)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(crowd=crowds(), slots=st.integers(2, 6))
def test_batched_equals_alone_in_any_order_of_arrival(cached, what, crowd, slots):
    pipeline = cached("sd1", what)
    engine = Engine(pipeline, EngineSettings(slots=2 * slots))
    tickets, results, started = {}, {}, {}
    for turn in range(40):
        for index, one in enumerate(crowd):
            if one["round"] == turn:
                tickets[index] = engine.submit(*planned(engine, one))
                started[index] = turn
            if one["cancel_after"] is not None and started.get(index, 99) + one["cancel_after"] == turn:
                engine.cancel(tickets[index])
        engine.step()
        results.update({result.number: result for result in engine.collect()})
    assert not engine.busy
    for index, one in enumerate(crowd):
        result = results.get(tickets[index])
        if result is None:
            assert one["cancel_after"] is not None
            continue
        alone = Engine(pipeline)
        ticket = alone.submit(*planned(alone, one))
        expected = pictures(alone)[ticket].pixels
        difference = np.abs(result.pixels.astype(int) - expected.astype(int))
        assert difference.max() <= 1, one


@pytest.mark.parametrize("what", CACHED)
@pytest.mark.parametrize("kind", ["pixart", "dit", "ddpm-classes", "ldm", "sdxl"])
def test_every_family_batches_rows_of_different_schedules(cached, kind, what):
    """Transformers and U-Nets, text, classes and none: what goes into a block beside its input is compacted with it."""
    pipeline = cached(kind, what)
    engine = Engine(pipeline)
    asked = [request(kind, steps=4, seed=seed, solver="ddim") for seed in range(3)]
    cache = pipeline.row_cache
    plans = [
        with_random_reuse(engine.plan(one), len(cache.blocks), seed, 0.6, cache.inside)
        for seed, one in enumerate(asked)
    ]
    tickets = [engine.submit(one, plan) for one, plan in zip(asked, plans, strict=True)]
    together = pictures(engine)
    for ticket, one, plan in zip(tickets, asked, plans, strict=True):
        alone = Engine(pipeline)
        own = alone.submit(one, plan)
        expected = pictures(alone)[own].pixels
        assert together[ticket].error is None
        assert np.abs(together[ticket].pixels.astype(int) - expected.astype(int)).max() <= 1


def test_reuse_saves_work_and_changes_the_picture(cached):
    pipeline = cached("sd1")
    calls = []
    first = pipeline.row_cache.blocks[0]
    hook = pipeline.network.get_submodule(first).block.register_forward_hook(
        lambda module, given, output: calls.append(len(given[0]))
    )
    asked = request("sd1", steps=8, guidance_scale=3.0, solver="ddim")
    plain, half = Engine(pipeline), Engine(pipeline)
    [expected] = plain.generate([asked])
    evaluated = sum(calls)
    calls.clear()
    plan = half.plan(asked)
    compute = np.ones((len(plan), len(pipeline.row_cache.blocks)), bool)
    compute[1::2] = False
    ticket = half.submit(asked, plan.with_columns(compute=compute))
    result = pictures(half)[ticket]
    hook.remove()
    assert sum(calls) * 2 == evaluated == 16
    assert not np.array_equal(result.pixels, expected.pixels)


def test_a_request_that_fails_in_a_call_costs_the_others_nothing(cached):
    pipeline = cached("sd1")
    asked = [request("sd1", steps=4, seed=seed) for seed in range(4)]
    reuse = with_random_reuse(Engine(pipeline).plan(asked[0]), len(pipeline.row_cache.blocks), 1)
    expected = []
    for one in asked:
        alone = Engine(pipeline)
        ticket = alone.submit(one, reuse)
        expected.append(pictures(alone)[ticket].pixels)
    engine = Engine(pipeline)
    tickets = [engine.submit(one, reuse) for one in asked]
    resnet = find_blocks(pipeline.network, "resnet")[-1]
    calls = []

    def fail_once_in_the_middle(module, given, output):
        calls.append(len(output))
        if len(calls) == 3:
            raise RuntimeError("out of memory")

    hook = pipeline.network.get_submodule(resnet).register_forward_hook(fail_once_in_the_middle)
    results = pictures(engine)
    hook.remove()
    assert calls[2:5] == [8, 4, 4]
    for ticket, pixels in zip(tickets, expected, strict=True):
        assert np.abs(results[ticket].pixels.astype(int) - pixels.astype(int)).max() <= 1


@pytest.mark.parametrize("what", CACHED)
def test_bytes_of_the_cache_are_part_of_the_slot_budget(cached, what):
    pipeline = cached("sd1", what)
    blocks = len(pipeline.row_cache.blocks)
    asked = request("sd1", steps=3, guidance_scale=3.0, solver="ddim")
    plan = with_random_reuse(Engine(pipeline).plan(asked), blocks, 0, share=1.0)
    latents = 4 * 4 * 8 * 8
    cache = pipeline.row_cache.nbytes((4, 8, 8), np.ones((2, blocks), bool))
    exact = Engine(pipeline, EngineSettings(slots=4, memory_bytes=latents + cache))
    exact.submit(asked, plan)
    exact.submit(asked, plan)
    exact.step()
    assert len(exact.resident) == 1
    [slot] = exact._pool.resident
    assert slot.cache.nbytes == cache
    short = Engine(pipeline, EngineSettings(slots=4, memory_bytes=latents + cache - 1))
    with pytest.raises(CapacityError, match=r"cached blocks.*bfloat16.*memory_bytes=\d+"):
        short.submit(asked, plan)
    assert not short.busy
    short.submit(asked)  # without reuse it fits


def test_a_cache_that_comes_after_the_engine_is_followed_too(tiny_model):
    pipeline = load(tiny_model("sd1"))
    engine = Engine(pipeline)
    pipeline.row_cache = RowCache(pipeline.network, find_blocks(pipeline.network, "transformer"))
    asked = request("sd1", steps=4, solver="ddim")
    ticket = engine.submit(asked, with_random_reuse(engine.plan(asked), len(pipeline.row_cache.blocks), 0, share=1.0))
    evaluated = []
    hook = pipeline.network.get_submodule(pipeline.row_cache.blocks[0]).block.register_forward_hook(
        lambda module, given, output: evaluated.append(len(given[0]))
    )
    assert ticket in pictures(engine)
    hook.remove()
    assert evaluated == [2]


def test_plans_of_other_blocks_are_refused_before_any_work(cached, tiny_pipeline):
    pipeline = cached("sd1")
    engine = Engine(pipeline)
    asked = request("sd1", steps=3)
    with pytest.raises(PlanError, match="1 blocks and the row cache"):
        engine.submit(asked, with_random_reuse(engine.plan(asked), 1, 0))
    uncached = Engine(tiny_pipeline("sd1"))
    with pytest.raises(PlanError, match="compute"):
        uncached.submit(asked, with_random_reuse(uncached.plan(asked), 1, 0, share=1.0))


def test_plans_that_need_what_was_not_computed_are_refused_before_any_work(cached):
    pipeline = cached("sd1", "everything")
    engine, blocks = Engine(pipeline), pipeline.row_cache.blocks
    asked = request("sd1", steps=3, solver="ddim")
    plan = engine.plan(asked)
    compute = np.ones((len(plan), len(blocks)), bool)
    inner = blocks.index("mid_block.attentions.0")
    compute[1, blocks.index("branch.0.0")] = False  # so the block inside is not computed in this row,
    compute[2, inner] = False  # and must not be reused in the next one
    with pytest.raises(PlanError, match=r"row 2.*'mid_block\.attentions\.0'.*consistent"):
        engine.submit(asked, plan.with_columns(compute=compute))
    assert not engine.busy
    joined = consistent(compute, pipeline.row_cache.inside)
    ticket = engine.submit(asked, plan.with_columns(compute=joined))
    assert pictures(engine)[ticket].error is None


def test_what_decide_raises_is_raised_before_any_work(cached):
    def refuse(plan):
        raise PlanError("no schedule for this solver")

    engine = Engine(cached("sd1"), decide=refuse)
    with pytest.raises(PlanError, match="no schedule"):
        engine.submit(request("sd1", steps=3))
    assert not engine.busy


def test_compilation_and_a_block_cache_exclude_each_other(cached):
    with pytest.raises(HeadraceError, match="block cache"):
        Engine(cached("sd1"), EngineSettings(compile="default"))
