"""The block cache among its peers, and in a mixed continuous batch."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from headrace.benchmarks._block_cache.adjusted import train_scale_shift
from headrace.benchmarks._block_cache.batch import measure_batch
from headrace.benchmarks._block_cache.display import plot
from headrace.benchmarks._block_cache.field import field
from headrace.benchmarks._block_cache.peer import BlockCache, rhythm
from headrace.benchmarks._block_cache.quality import Comparison, Contestant, judge
from headrace.benchmarks._block_cache.speed import measure_speed
from headrace.benchmarks._peers import FewerSteps, Uncached
from headrace.benchmarks.registry import load_benchmark
from headrace.engine import Engine
from headrace.errors import HeadraceError
from headrace.models.blocks import find_blocks
from headrace.models.pipelines.loading import load
from headrace.request import Request
from headrace.techniques.block_caching.artefact import Choice, cached_blocks, choose
from headrace.techniques.block_caching.calibrate import measure_work, profile
from headrace.techniques.block_caching.displacement import measure_displacement

STEPS = 6


@pytest.fixture(scope="module")
def pipeline(tiny_model):
    return load(tiny_model("sd1"))


def asked(count, steps=STEPS):
    return [
        Request(prompt="red apple", solver="dpm++2m", steps=steps, guidance_scale=4.0, seed=seed)
        for seed in range(count)
    ]


@pytest.fixture(scope="module")
def found(pipeline):
    plan = Engine(pipeline).plan(asked(1)[0])
    return profile(pipeline, plan, asked(2), measure_work(pipeline, asked(1)[0]))


def test_the_rhythm_is_the_papers_printed_example():
    schedule = rhythm(("a", "b", "c"), np.arange(20.0), 2)
    assert (np.flatnonzero(schedule.compute[:, 0]) + 1).tolist() == [1, 6, 10, 14, 18]
    assert np.array_equal(schedule.compute[:, 0], schedule.compute[:, 1])
    assert schedule.compute[:, 2].all()
    assert rhythm(("a",), np.arange(50.0), 1).compute.mean() == pytest.approx(0.25, abs=0.02)


def test_a_cache_that_evaluates_everything_makes_the_same_pictures(pipeline, found):
    schedule, _ = choose(found, None, Choice(delta=0.0))
    half, _ = choose(found, None, Choice(saving=0.1))
    contestants = [
        Contestant(Uncached(), "no cache"),
        Contestant(BlockCache("all", schedule), "block cache"),
        Contestant(BlockCache("some", half), "block cache"),
        Contestant(FewerSteps(0.5), "fewer steps"),
    ]
    plans = {steps: Engine(pipeline).plan(asked(1, steps)[0]) for steps in (STEPS, STEPS // 2)}
    seconds = Comparison(pipeline, asked(4), batch=2).run(contestants, plans, STEPS)
    plain, everything, some, fewer = judge(contestants, seconds, None)
    assert (plain.latency, plain.psnr, everything.psnr, everything.ssim) == (1.0, 100.0, 100.0, pytest.approx(1.0))
    assert fewer.psnr < 100
    assert some.psnr < 100
    engine = Engine(pipeline).generate(asked(4))
    assert np.abs(contestants[0].pixels.astype(int) - np.stack([one.pixels for one in engine]).astype(int)).max() <= 1


def test_no_two_contestants_share_a_name(pipeline, found):
    """The seconds are kept by name."""
    plan = Engine(pipeline).plan(asked(1)[0])
    displacements = {
        kind: measure_displacement(pipeline, plan, asked(1), cached_blocks(found.work, Choice(kind)))
        for kind in ("all", "branch")
    }
    for quick in (True, False):
        if not quick and any(importlib.util.find_spec(name) is None for name in ("DeepCache", "tgate")):
            pytest.skip("the extra `peers` is not installed")
        names = [contestant.peer.name for contestant in field(found, displacements, quick, {0.5: Unchanged()})]
        assert len(set(names)) == len(names)


class Unchanged:
    """An adjustment in name only."""

    def at(self, timesteps):
        raise AssertionError("nothing is evaluated here")


def test_scale_shift_is_trained_and_leaves_the_pipeline_as_it_was(pipeline, found):
    plan = Engine(pipeline).plan(asked(1)[0])
    choice = Choice(saving=0.1)
    adjustment = train_scale_shift(pipeline, plan, asked(2), found, choice, minutes=0.02)
    assert pipeline.row_cache is None
    schedule, _ = choose(found, None, choice)
    pairs = adjustment.at(plan.timestep)
    assert len(pairs) == len(schedule.blocks)
    assert any((scale != 1).any() for scale, _ in pairs)
    contestants = [
        Contestant(Uncached(), "no cache"),
        Contestant(BlockCache("plain", schedule), "block cache"),
        Contestant(BlockCache("adjusted", schedule, adjustment), "scale-shift"),
    ]
    seconds = Comparison(pipeline, asked(2), batch=2).run(contestants, {STEPS: plan}, STEPS)
    _, plain, adjusted = judge(contestants, seconds, None)
    assert plain.psnr != adjusted.psnr


def test_the_mixed_batch_is_isolated_and_leaves_the_pipeline_as_it_was(pipeline, found):
    mixed = measure_batch(pipeline, found, "dpm++2m")
    assert mixed.isolated
    assert 0 < mixed.share_evaluated < 1
    assert pipeline.row_cache is None
    assert find_blocks(pipeline.network, "transformer") == found.work.of_kind("transformer")


def test_speed_takes_both_through_the_same_rows(pipeline):
    text = torch.randn(2, 5, pipeline.network.config.cross_attention_dim)
    [speed] = measure_speed(pipeline.network, text, 8, [("dpm++2m", 20)])
    assert (speed.share, speed.paper) == (0.25, 1.65)
    assert speed.plain > 0
    assert speed.cached > 0
    assert speed.together > 0


def test_the_plot_shows_every_line(pipeline, found, tmp_path):
    contestants = [Contestant(Uncached(), "no cache"), Contestant(FewerSteps(0.5), "fewer steps")]
    plans = {steps: Engine(pipeline).plan(asked(1, steps)[0]) for steps in (STEPS, STEPS // 2)}
    seconds = Comparison(pipeline, asked(2), batch=2).run(contestants, plans, STEPS)
    plot(judge(contestants, seconds, None), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000


def test_the_command_takes_the_name_with_a_hyphen_too():
    assert load_benchmark("block-cache") is load_benchmark("block_cache")
    with pytest.raises(HeadraceError, match="no benchmark 'block-caches'"):
        load_benchmark("block-caches")
