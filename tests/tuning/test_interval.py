"""Bootstrap and Wilson intervals: how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from headrace.tuning.interval import Interval, difference, mean, ratio


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(0)
    held = {"mean": 0, "share": 0, "ratio": 0, "pairs": 0}
    for _ in range(100):
        normal, coins = generator.normal(0.7, 0.1, 40), (generator.random(40) < 0.9).astype(float)
        below = generator.normal(2.0, 0.2, 40)
        above = 0.4 * below + generator.normal(0, 0.05, 40)
        held["mean"] += mean(normal).low <= 0.7 <= mean(normal).high
        held["share"] += mean(coins).low <= 0.9 <= mean(coins).high
        held["ratio"] += ratio(above, below).low <= 0.4 <= ratio(above, below).high
        worse = coins * (generator.random(40) < 0.95)
        found = difference(worse, coins)
        held["pairs"] += found.low <= -0.9 * 0.05 <= found.high
    assert all(87 <= count <= 100 for count in held.values()), held


def test_a_few_equal_answers_are_no_certainty():
    found = mean([1.0] * 6)
    assert (found.value, found.high) == (1.0, 1.0)
    assert 0.55 < found.low < 0.65  # Wilson (1927): 0.610
    assert mean([0.0] * 6).high == pytest.approx(1 - found.low)


def test_differences_are_paired():
    assert difference([0.5, 0.7], [0.4, 0.6]).value == pytest.approx(0.1)
    assert difference([0.5, 0.7], [0.4, 0.6]).high == pytest.approx(0.1)
    alike = difference([1.0] * 6, [1.0] * 6)
    assert alike.value == 0.0
    assert alike.low == -alike.high == pytest.approx(-1.96 / 8, rel=1e-3)


def test_the_ratio_of_a_sum_and_its_inverse():
    found = ratio([1.0, 3.0], [4.0, 4.0])
    assert found.value == 0.5
    assert (found.low, found.high) == (0.25, 0.75)
    assert found.inverse().value == 2.0
    assert (found.inverse().low, found.inverse().high) == (pytest.approx(4 / 3), 4.0)


def test_ends_on_the_wrong_side_are_refused():
    with pytest.raises(ValidationError):
        Interval(value=1.0, low=1.1, high=1.2)
