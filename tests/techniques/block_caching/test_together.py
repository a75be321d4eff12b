"""Blocks that reuse in the same rows: the best rows for a number of evaluations."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from headrace.errors import CalibrationError
from headrace.techniques.block_caching.schedule import most_saving, saving, together, together_for_saving

BLOCKS = ("a", "b")
SHAPES = st.integers(2, 8).flatmap(lambda rows: st.tuples(st.just(rows - 1), st.integers(1, min(4, rows - 1))))
DISPLACEMENTS = SHAPES.flatmap(lambda shape: arrays(np.float64, shape, elements=st.floats(0, 2, allow_subnormal=False)))


def total(rows, values):
    """Sum of squares where only these rows are evaluated; None where a value would be too old."""
    cost = 0.0
    for row in range(len(values) + 1):
        age = row - max(one for one in rows if one <= row)
        if age > values.shape[1]:
            return None
        cost += values[row - 1, age - 1] ** 2 if age else 0.0
    return cost


@settings(deadline=None)
@given(DISPLACEMENTS, st.data())
def test_no_other_rows_are_better(values, data):
    rows = len(values) + 1
    count = data.draw(st.integers(-(-rows // (values.shape[1] + 1)), rows))
    compute = together(BLOCKS, np.arange(rows), values, count).compute
    assert (compute[:, 0] == compute[:, 1]).all()
    chosen = np.flatnonzero(compute[:, 0]).tolist()
    assert len(chosen) == count
    others = [total((0, *rest), values) for rest in combinations(range(1, rows), count - 1)]
    best = min(cost for cost in others if cost is not None)
    assert total(chosen, values) == pytest.approx(best, rel=1e-9, abs=1e-12)


def test_every_row_is_evaluated_where_as_many_are_asked():
    assert together(BLOCKS, np.arange(5), np.ones((4, 2)), 5).compute.all()


@given(DISPLACEMENTS, st.floats(0, 0.9))
def test_a_saving_is_reached_and_the_displacement_is_told(values, fraction):
    rows, cost = len(values) + 1, [0.5, 0.3]
    least = -(-rows // (values.shape[1] + 1))
    target = fraction * 0.8 * (rows - least) / rows
    schedule, displacement = together_for_saving(BLOCKS, np.arange(rows), values, cost, target)
    assert saving(schedule, cost) >= target - 1e-9
    assert saving(schedule, cost) < target + 0.8 / rows + 1e-9  # one evaluation fewer is never needed
    chosen = np.flatnonzero(schedule.compute[:, 0]).tolist()
    assert displacement == pytest.approx(np.sqrt(total(chosen, values)), abs=1e-9)


def test_what_cannot_be():
    with pytest.raises(CalibrationError, match=r"1 evaluations of 7 rows.*at most 2"):
        together(BLOCKS, np.arange(7), np.ones((6, 2)), 1)
    with pytest.raises(CalibrationError, match="8 evaluations of 7 rows"):
        together(BLOCKS, np.arange(7), np.ones((6, 2)), 8)
    with pytest.raises(CalibrationError, match="cannot be reached"):
        together_for_saving(
            BLOCKS, np.arange(7), np.ones((6, 6)), [0.2, 0.1], most_saving(BLOCKS, 7, [0.2, 0.1]) + 0.01
        )
    for values in (np.ones((5, 2)), np.ones((6, 7)), np.full((6, 2), np.nan), np.full((6, 2), -1.0), np.ones(6)):
        with pytest.raises(CalibrationError, match="displacement"):
            together(BLOCKS, np.arange(7), values, 4)
