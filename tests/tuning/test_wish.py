"""Wishes: what they choose, what they prefer, and what they say where nothing grants them."""

from __future__ import annotations

import pytest

from headrace.errors import TuningError
from headrace.tuning.interval import Interval
from headrace.tuning.settings import Settings
from headrace.tuning.trial import Outcome, Trial
from headrace.tuning.wish import Wish


def trial(steps: int, cost: float, quality: float) -> Trial:
    outcome = Outcome(cost=Interval.exact(cost), quality=Interval.exact(quality))
    return Trial(settings=Settings(steps=steps), pictures=4, outcome=outcome)


TRIALS = [trial(20, 1.0, 0.9), trial(15, 0.75, 0.88), trial(10, 0.5, 0.8), trial(9, 0.45, 0.7), trial(5, 0.25, 0.4)]


@pytest.mark.parametrize(("speedup", "steps"), [(1.0, 20), (1.2, 15), (2.0, 10), (2.1, 9), (4.0, 5)])
def test_the_best_quality_at_a_speed(speedup, steps):
    assert Wish(target_speedup=speedup).choose(TRIALS).settings.steps == steps
    nearest = max(TRIALS, key=lambda one: Wish(target_speedup=speedup).preference(one.found.point))
    assert nearest.settings.steps == steps


@pytest.mark.parametrize(("quality", "steps"), [(0.9, 20), (0.75, 10), (0.0, 5)])
def test_the_highest_speed_at_a_quality(quality, steps):
    assert Wish(min_quality=quality).choose(TRIALS).settings.steps == steps
    nearest = max(TRIALS, key=lambda one: Wish(min_quality=quality).preference(one.found.point))
    assert nearest.settings.steps == steps


def test_what_nothing_grants_says_the_best_there_is():
    with pytest.raises(
        TuningError, match=r"5 times as fast: at most 4\.00 times, at a quality of 0\.400, by own solver 5"
    ):
        Wish(target_speedup=5).choose(TRIALS)
    with pytest.raises(TuningError, match=r"a quality of at least 0\.95: at most 0\.900, 1\.00 times as fast"):
        Wish(min_quality=0.95).choose(TRIALS)


def test_of_equal_qualities_the_fastest_is_chosen():
    equal = [trial(10, 0.5, 0.8), trial(8, 0.4, 0.8), trial(9, 0.45, 0.8)]
    assert Wish(target_speedup=2).choose(equal).settings.steps == 8
