"""PostDiff's benchmark: what is compared, and how far a search may be from a grid."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.benchmarks._block_cache.quality import Quality
from headrace.benchmarks._postdiff.combination import DIFFUSERS, PLAIN, measure_combination
from headrace.benchmarks._postdiff.mechanisms import MECHANISMS, TOGETHER, mechanism
from headrace.benchmarks._postdiff.quality import Accelerated, margins
from headrace.benchmarks._postdiff.ranking import agreement, picture_scores
from headrace.benchmarks._postdiff.regret import regret
from headrace.benchmarks._postdiff.sources import measure_sources
from headrace.benchmarks._postdiff.speed import measure_speed
from headrace.benchmarks.postdiff import _ours
from headrace.models.pipelines.loading import load
from headrace.request import Request
from headrace.tuning.interval import Interval
from headrace.tuning.settings import Settings
from headrace.tuning.space import Space
from headrace.tuning.trial import Outcome


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model("sd1")


def quality(name, latency, recall, group="peer"):
    return Quality(name, group, latency, 30.0, 0.9, recall, 1.0)


def test_a_margin_is_over_ours_that_are_as_fast():
    found = margins(
        [
            quality("plain", 1.0, 0.9, "plain"),
            quality("slow and good", 0.8, 0.9),
            quality("fast", 0.4, 0.7),
            quality("fewer steps", 0.5, 0.75),
            quality("very fast", 0.1, 0.1),
        ],
        {"slow and good", "fast"},
        lambda one: one.recall,
    )
    assert found == {"fewer steps": pytest.approx(-0.05), "very fast": None}


def test_every_mechanism_is_measured_on_the_same_rows(model):
    pipeline = load(model)
    speed = measure_speed(pipeline, pipeline.default_size[0], 4, paper=2.0)
    assert list(speed.seconds) == list(MECHANISMS)
    assert all(seconds > 0 for seconds in speed.seconds.values())
    assert set(speed.speedups) == set(MECHANISMS) - {"plain"}
    assert speed.speedup == speed.speedups[TOGETHER]
    assert pipeline.row_cache is None


def test_the_grid_has_every_mechanism_and_no_settings_twice():
    for quick in (True, False):
        ours = _ours(quick)
        assert {mechanism(name, "dpm++2m", 20).identity for name in MECHANISMS} <= set(ours)
        names = [one.name for one in ours.values()]
        assert len(set(names)) == len(names)


def test_combinations_make_every_picture_and_plain_ones_are_diffusers(model):
    pipeline = load(model)
    combinations = {"PostDiff": (Settings.parse({"low_share": 0.5, "deep_interval": 2}), None)}
    services = measure_combination(pipeline, model, ["red apple", "snowman", "fox"], combinations, None)
    assert [one.name for one in services] == [DIFFUSERS, PLAIN, "PostDiff"]
    assert services[0].speedup == 1.0
    assert all(one.images_per_second > 0 and one.recall is None for one in services)


def landscape(space):
    """Fewer steps are cheaper and worse, reuse is cheaper and a little worse."""
    outcomes = {}
    for steps in space.values["steps"]:
        for interval in space.values["deep_interval"]:
            settings = Settings.parse({"steps": steps, "deep_interval": interval})
            cost = steps / 20 / interval**0.5
            worth = 1 - 0.4 * (20 - steps) / 20 - 0.05 * (interval - 1)
            outcomes[settings] = Outcome(cost=Interval.exact(cost), quality=Interval.exact(worth))
    return outcomes


def test_regret_is_small_where_the_landscape_is_plain_and_never_negative():
    space = Space(Settings.parse({}), {"steps": (20, 15, 10, 5), "deep_interval": (1, 2, 3)})
    lost = regret(landscape(space), space)
    assert 0 <= lost < 0.1


def test_a_ranking_that_every_picture_gives_needs_few_of_them():
    worth = np.arange(6.0)[:, None] + np.random.default_rng(0).normal(0, 0.01, (6, 40))
    assert agreement(worth, 5) == pytest.approx(1.0)


def test_a_ranking_by_chance_agrees_with_nothing():
    scores = np.random.default_rng(0).normal(size=(6, 400))
    assert abs(agreement(scores, 200)) < 0.5


def test_pictures_are_scored_against_plain_ones():
    pixels = [np.full((4, 8, 8, 3), level, np.uint8) for level in (10, 10, 14)]
    contestants = [Accelerated(str(number), "", Settings.parse({}), None, [one]) for number, one in enumerate(pixels)]
    scores = picture_scores(contestants, None)
    assert scores.keys() == {"psnr"}
    assert scores["psnr"].tolist() == [[0.0] * 4, [-16.0] * 4]


def test_sources_of_cross_attention_differ_and_leave_no_cache(model):
    pipeline = load(model)
    found = measure_sources(pipeline, [Request(prompt="red apple", steps=4, seed=seed) for seed in range(2)])
    assert set(found) == {"own", "conditional", "unconditional", "mean"}
    assert len(set(found.values())) > 1
    assert pipeline.row_cache is None


def test_accelerated_pictures_are_joined():
    one = Accelerated("a", "b", Settings.parse({}))
    one.batches += [np.zeros((2, 4, 4, 3), np.uint8), np.ones((1, 4, 4, 3), np.uint8)]
    assert one.pixels.shape == (3, 4, 4, 3)
