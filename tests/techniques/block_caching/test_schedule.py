"""Schedules from changes (equation 7), by bisection, and on plans of other lengths."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from headrace.errors import CalibrationError, HeadraceWarning, PlanError
from headrace.plan import Plan
from headrace.techniques.block_caching.schedule import Schedule, apply, for_saving, from_change, most_saving, saving

CHANGES = st.tuples(st.integers(1, 12), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(0, 2, allow_subnormal=False))
)
DELTAS = st.floats(0, 5, allow_subnormal=False)


def names(change) -> tuple[str, ...]:
    return tuple(f"blocks.{index}" for index in range(np.shape(change)[1]))


def schedule_of(change, delta: float) -> Schedule:
    return from_change(names(change), np.linspace(999, 0, len(change) + 1), change, delta)


def make_plan(rows: int, **columns: object) -> Plan:
    plan = Plan(timestep=np.linspace(999, 0, rows), a=1.0, b=np.zeros((rows, 1)), steps=rows)
    return plan.with_columns(**columns)


def test_a_value_is_kept_until_the_change_since_it_was_computed_exceeds_delta():
    change = np.array([[0.2, 0.6], [0.2, 0.0], [0.2, 0.5], [0.2, 0.1]])
    compute = schedule_of(change, 0.5).compute
    # 0.2 + 0.2 does not exceed 0.5, 0.2 + 0.2 + 0.2 does: after rows 0, 3; 0.6 does, 0.0 + 0.5 does not, + 0.1 does.
    assert compute[:, 0].tolist() == [True, False, False, True, False]
    assert compute[:, 1].tolist() == [True, True, False, False, True]


@given(CHANGES, DELTAS)
def test_every_lifetime_obeys_equation_7(change, delta):
    compute = schedule_of(change, delta).compute
    for block in range(compute.shape[1]):
        computed = [*np.flatnonzero(compute[:, block]).tolist(), None]
        for start, end in pairwise(computed):
            last = (len(compute) if end is None else end) - 1
            assert math.fsum(change[start:last, block]) <= delta * (1 + 1e-12) + 1e-12
            if end is not None and delta > 0:
                assert math.fsum(change[start:end, block]) > delta * (1 - 1e-12) - 1e-12


@given(CHANGES, DELTAS, DELTAS)
def test_a_greater_threshold_never_evaluates_more(change, one, other):
    low, high = sorted((one, other))
    assert (schedule_of(change, high).compute.sum(axis=0) <= schedule_of(change, low).compute.sum(axis=0)).all()


@given(CHANGES)
def test_threshold_zero_evaluates_everything_even_where_nothing_changes(change):
    assert schedule_of(change, 0.0).compute.all()
    assert schedule_of(0 * change, 0.0).compute.all()
    assert not schedule_of(0 * change, 1e-9).compute[1:].any()


@settings(deadline=None)
@given(CHANGES, st.floats(0, 0.999), st.data())
def test_bisection_reaches_the_target_and_no_smaller_threshold_does(change, fraction, data):
    blocks = names(change)
    weights = np.array(data.draw(st.lists(st.floats(0.05, 1), min_size=len(blocks), max_size=len(blocks))))
    cost = 0.9 * weights / weights.sum()
    times = np.arange(len(change) + 1.0)
    target = fraction * most_saving(blocks, len(times), cost)
    schedule, delta = for_saving(blocks, times, change, cost, target)
    assert saving(schedule, cost) >= target - 1e-8
    assert np.array_equal(schedule.compute, from_change(blocks, times, change, delta).compute)
    if delta > 1e-9:
        assert saving(from_change(blocks, times, change, delta * (1 - 1e-6)), cost) < target


def test_saving_is_the_share_of_the_network_that_is_left_out():
    schedule = Schedule(("a", "b"), np.arange(4.0), np.array([[1, 1], [0, 1], [0, 0], [1, 1]], dtype=bool))
    assert saving(schedule, [0.4, 0.2]) == pytest.approx((2 * 0.4 + 1 * 0.2) / 4)
    assert most_saving(("a", "b"), 4, [0.4, 0.2]) == pytest.approx(0.6 * 3 / 4)


def test_a_saving_out_of_reach_says_the_most_that_can_be_had():
    change = np.full((9, 2), 0.3)
    with pytest.raises(CalibrationError, match=r"0\.800 cannot be reached.* save 0\.540"):
        for_saving(("a", "b"), np.arange(10), change, [0.5, 0.1], 0.8)
    schedule, _ = for_saving(("a", "b"), np.arange(10), change, [0.5, 0.1], 0.54)
    assert not schedule.compute[1:].any()


@pytest.mark.parametrize("target", [-0.1, 1.0, math.nan, math.inf])
def test_targets_that_are_no_share(target):
    with pytest.raises(CalibrationError, match="share of the network"):
        for_saving(("a",), np.arange(3), np.ones((2, 1)), [0.5], target)


@pytest.mark.parametrize("delta", [-0.1, math.nan, math.inf])
def test_thresholds_that_are_no_change(delta):
    with pytest.raises(CalibrationError, match="delta is"):
        schedule_of(np.ones((3, 1)), delta)


def test_changes_and_costs_that_do_not_fit():
    for change in (np.ones((3, 2)), np.full((2, 2), np.nan), np.full((2, 2), -1.0)):
        with pytest.raises(CalibrationError, match="change"):
            from_change(("a", "b"), np.arange(3), change, 0.5)
    with pytest.raises(CalibrationError, match="change has shape"):
        from_change(("a",), [999.0], np.ones((0, 1)), 0.5)
    for cost in ([0.5], [0.8, 0.8], [math.nan, 0.1], [-0.1, 0.1]):
        with pytest.raises(CalibrationError, match="no shares"):
            for_saving(("a", "b"), np.arange(3), np.ones((2, 2)), cost, 0.1)


def test_schedules_are_whole():
    for blocks, compute in ((("a",), [[0], [1]]), (("a", "a"), [[1, 1], [1, 1]]), ((), [[], []]), (("a",), [[1]])):
        with pytest.raises(CalibrationError):
            Schedule(blocks, np.arange(len(compute)), np.array(compute, dtype=bool))
    with pytest.raises(CalibrationError, match="not finite"):
        Schedule(("a",), np.array([1.0, np.nan]), np.ones((2, 1), dtype=bool))


def test_only_compute_is_filled_and_the_own_number_of_rows_does_not_warn():
    schedule = schedule_of(np.full((9, 2), 0.3), 0.5)
    plan = make_plan(10, guidance=4.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cached = apply(plan, schedule)
    assert plan.differences(cached) == ("compute",)
    assert np.array_equal(cached.compute, schedule.compute)


@pytest.mark.parametrize(("old", "new"), [(20, 50), (50, 20), (10, 11), (11, 10), (5, 1), (2, 7), (39, 19)])
def test_other_row_counts_take_the_schedule_by_normalised_time(old, new):
    generator = np.random.default_rng(old)
    schedule = schedule_of(generator.uniform(0, 0.5, (old - 1, 6)), 0.8)
    with pytest.warns(HeadraceWarning, match=f"made for {old} rows and is stretched to {new}") as told:
        compute = apply(make_plan(new), schedule).compute
    assert f"{compute.mean():.0%} of its blocks are evaluated, not {schedule.compute.mean():.0%}" in str(
        told[0].message
    )
    for row in range(1, new):
        before, here = (row - 1) / (new - 1), row / (new - 1)
        within = [n for n in range(old) if before + 1e-9 < n / (old - 1) <= here + 1e-9]
        assert np.array_equal(compute[row], schedule.compute[within].any(axis=0)), row
    assert compute[0].all()


@given(CHANGES, DELTAS, st.integers(2, 30))
def test_more_rows_evaluate_as_often_as_the_schedule_and_fewer_rows_not_more(change, delta, rows):
    schedule = schedule_of(change, delta)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HeadraceWarning)
        counts = apply(make_plan(rows), schedule).compute.sum(axis=0)
    expected = schedule.compute.sum(axis=0)
    assert (counts == expected).all() if rows >= len(schedule) else (counts <= expected).all()


def test_guidance_that_comes_on_again_and_resized_latents_evaluate_everything():
    schedule = schedule_of(np.zeros((7, 3)), 1.0)
    guided = apply(make_plan(8, guidance=[4, 4, 1, 1, 3, 3, 1, 1]), schedule)
    assert guided.compute.all(axis=1).tolist() == [True, False, False, False, True, False, False, False]
    resized = apply(make_plan(8, scale=[0.5, 0.5, 0.5, 1, 1, 1, 1, 1]), schedule)
    assert resized.compute.all(axis=1).tolist() == [True, False, False, True, False, False, False, False]


def test_rows_of_another_solver_are_refused():
    schedule = schedule_of(np.ones((4, 1)), 0.5)
    other = Plan(timestep=np.array([999, 700, 400, 200, 0.0]), a=1.0, b=np.zeros((5, 1)))
    with pytest.raises(PlanError, match=r"row 2 of the plan is at timestep 400, and at 499\.5"):
        apply(other, schedule)
