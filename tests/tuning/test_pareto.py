"""Fronts, layers, who survives a rung, and regret."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.tuning.pareto import crowding, front, layers, regret, survivors

POINTS = st.lists(st.tuples(st.integers(1, 8).map(float), st.integers(0, 8).map(float)), min_size=1, max_size=20)


def beats(one, other) -> bool:
    return one != other and one[0] <= other[0] and one[1] >= other[1]


@given(points=POINTS)
def test_the_front_is_what_nothing_beats(points):
    found = front(points)
    assert {points[index] for index in found} == {one for one in points if not any(beats(two, one) for two in points)}
    chosen = [points[index] for index in found]
    assert chosen == sorted(set(chosen))


@given(points=POINTS, data=st.data())
def test_survivors_are_distinct_and_no_survivor_is_a_layer_behind_one_that_was_left_out(points, data):
    count = data.draw(st.integers(0, len(points)))
    chosen = survivors(points, count)
    assert len(chosen) == len(set(chosen)) == count
    layer = {index: number for number, indices in enumerate(layers(points)) for index in indices}
    assert sorted(layer) == list(range(len(points)))
    left = [layer[index] for index in range(len(points)) if index not in chosen]
    assert not chosen or not left or max(layer[index] for index in chosen) <= min(left)


def test_of_one_layer_the_ends_and_those_that_stand_alone_survive():
    points = [(1.0, 1.0), (2.0, 2.0), (2.1, 2.1), (2.2, 2.2), (6.0, 6.0), (9.0, 9.0)]
    assert sorted(survivors(points, 3)) == [0, 4, 5]
    assert np.isinf(crowding(points)[[0, -1]]).all()
    assert survivors(points, 3, prefer=lambda point: -abs(point[0] - 2.1))[0] == 2


def test_regret_is_the_quality_that_is_missing_at_a_cost():
    known = [(1.0, 0.5), (2.0, 0.9)]
    assert regret(known, known, [1.0, 2.0, 3.0]) == 0.0
    assert regret([(1.5, 0.8)], known, [2.0]) == pytest.approx(0.1)
    assert regret([(1.5, 0.8)], known, [1.0]) == 0.5
