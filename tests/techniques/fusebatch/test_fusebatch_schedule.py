"""Timestep-fusion scheduling: shares of the rows, their order, costs, and what a user may write."""

import numpy as np
import pytest
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import PlanError
from headrace.plan import Plan
from headrace.plan.trace import trace
from headrace.techniques.fusebatch.schedule import (
    PAPER,
    Allocation,
    check_factors,
    effective_cost,
    for_cost,
    fuse,
    halving,
    intervals,
    parse,
    uniform,
)

FACTORS = st.lists(st.integers(1, 32), min_size=1, max_size=5, unique=True)


def some_plan(rows, solver="DDIMScheduler"):
    return Plan(timestep=np.linspace(999, 0, rows), a=1.0, b=np.ones((rows, 1)), solver=solver)


@st.composite
def allocations(draw):
    factors = draw(FACTORS)
    weights = draw(st.lists(st.integers(1, 100), min_size=len(factors), max_size=len(factors)))
    return Allocation({k: weight / sum(weights) for k, weight in zip(factors, weights, strict=True)})


@given(allocations(), st.integers(1, 200), st.sampled_from(["time", "interval"]))
def test_every_factor_has_its_share_of_the_rows_to_within_one_row(allocation, rows, order):
    fused = fuse(some_plan(rows), allocation, order)
    for k, share in allocation.shares:
        assert abs(np.count_nonzero(fused.fusion == k) - share * rows) < 1 + 1e-6
    assert set(fused.fusion.tolist()) <= set(allocation.factors)


@given(allocations(), st.integers(1, 200))
def test_in_time_the_factor_never_grows(allocation, rows):
    assert (np.diff(fuse(some_plan(rows), allocation, "time").fusion) <= 0).all()


@given(allocations(), st.lists(st.integers(1, 50), min_size=1, max_size=60))
def test_by_interval_a_longer_step_never_has_a_larger_factor(allocation, steps):
    timesteps = np.cumsum(steps[::-1])[::-1].astype(float)
    plan = Plan(timestep=timesteps, a=1.0, b=np.ones((len(steps), 1)), solver="FlowMatchEulerDiscreteScheduler")
    fused = fuse(plan, allocation)
    order = np.argsort(steps, kind="stable")
    assert (np.diff(fused.fusion[order]) <= 0).all()
    assert intervals(plan).tolist() == steps


@given(FACTORS, st.floats(0, 1))
def test_a_cost_is_met(factors, place):
    least, most = 1 / max(factors), 1 / min(factors)
    target = least + place * (most - least)
    allocation = for_cost(target, factors)
    assert allocation.cost == pytest.approx(target, abs=1e-9)
    assert set(allocation.factors) <= set(factors)


def test_the_papers_allocation_from_early_to_late():
    plan = fuse(trace(DDIMScheduler(), 8), PAPER)
    assert plan.fusion.tolist() == [4, 4, 4, 4, 2, 2, 1, 1]
    assert PAPER.cost == effective_cost(plan) == 0.5
    assert halving([1, 2, 4]) == for_cost(0.5, [4, 1, 2]) == PAPER


def test_fractions_of_a_row_go_to_the_largest_remainder_and_the_smaller_factor():
    assert PAPER.counts(10) == {4: 5, 2: 2, 1: 3}
    assert PAPER.counts(5) == {4: 3, 2: 1, 1: 1}
    assert PAPER.counts(1) == {4: 1, 2: 0, 1: 0}
    assert Allocation({3: 1 / 3, 2: 1 / 3, 1: 1 / 3}).counts(9) == {3: 3, 2: 3, 1: 3}


def test_flow_matching_goes_by_interval_unless_told_otherwise():
    shifted = trace(FlowMatchEulerDiscreteScheduler(shift=3.0), 8)
    fused = fuse(shifted, PAPER)
    # The shift crowds the early timesteps; the last one stands at nearly 0, so the step behind it is the shortest.
    assert fused.fusion.tolist() == [4, 4, 4, 2, 2, 1, 1, 4]
    assert fuse(shifted, PAPER, "time").fusion.tolist() == [4, 4, 4, 4, 2, 2, 1, 1]
    even = fuse(trace(FlowMatchEulerDiscreteScheduler(), 8), PAPER)
    assert even.fusion.tolist() == [4, 4, 4, 2, 2, 1, 1, 4]  # equal intervals, the earlier row first


def test_a_level_that_is_evaluated_twice_has_one_interval():
    lengths = intervals(trace(FlowMatchHeunDiscreteScheduler(), 4))
    assert lengths[1:] == pytest.approx([lengths[1], lengths[1], lengths[3], lengths[3], lengths[5], lengths[5]])


def test_only_fusion_is_filled():
    plan = trace(DDIMScheduler(), 4)
    assert plan.differences(fuse(plan, uniform(2))) == ("fusion",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tfs", PAPER),
        ("TFS ", PAPER),
        ("2", uniform(2)),
        ("4:0.5,2:0.25,1:0.25", PAPER),
        ("1:0.25, 4:0.5, 2:0.25", PAPER),
        ("4:1,2:0", uniform(4)),
        ("cost:0.5", PAPER),
        ("cost:1", uniform(1)),
        ("cost:0.25", uniform(4)),
    ],
)
def test_what_a_user_may_write(text, expected):
    assert parse(text, (1, 2, 4)) == expected


def test_tfs_is_of_the_factors_that_a_model_has():
    assert parse("tfs", (1, 2)) == Allocation({2: 0.5, 1: 0.5})
    assert parse("tfs", (1, 2, 4, 8)) == Allocation({8: 0.5, 4: 0.25, 2: 0.125, 1: 0.125})


@pytest.mark.parametrize(
    ("text", "factors", "words"),
    [
        ("0", (1, 2), ["0", "1 or more"]),
        ("3", (1, 2), ["K=3", "1, 2", "train"]),
        ("tfs", (2,), ["K=2 alone", "headrace fuse"]),
        ("tfs", (1,), ["K=1 alone"]),
        ("4:0.5,2:0.25", (1, 2, 4), ["0.75", "sum", "exactly one K"]),
        ("4:0.5,4:0.5", (1, 2, 4), ["twice"]),
        ("4:1.5", (1, 2, 4), ["1.5", "0 to 1"]),
        ("4:nan,2:1", (2, 4), ["nan"]),
        ("8:0.5,1:0.5", (1, 2, 4), ["K=8", "1, 2, 4"]),
        ("cost:0.1", (1, 2, 4), ["0.1", "0.25 to 1"]),
        ("cost:0.75", (2, 4), ["0.75", "0.25 to 0.5"]),
        ("cost:x", (1, 2), ["'cost:x'", "'x'", "cost:0.4"]),
        ("fast", (1, 2), ["'fast'", "tfs"]),
        ("", (1, 2), ["''", "tfs"]),
        ("2.5", (1, 2), ["'2.5'", "tfs"]),
        ("-1:1", (1, 2), ["'-1:1'", "tfs"]),
        ("2:", (1, 2), ["'2:'", "tfs"]),
    ],
)
def test_what_no_model_can_do_is_refused_with_a_remedy(text, factors, words):
    with pytest.raises(PlanError) as caught:
        parse(text, factors)
    assert not [word for word in words if word not in str(caught.value)], caught.value
    assert caught.value.remedy


@pytest.mark.parametrize(
    "shares", [{}, {0: 1.0}, {True: 1.0}, {2.0: 1.0}, {2: 0.9}, [(2, 0.5), (2, 0.5)], {2: -1, 1: 2}]
)
def test_allocations_that_are_none(shares):
    with pytest.raises(PlanError):
        Allocation(shares)


def test_factors_that_are_none():
    for factors in ([], [0], [1, -2]):
        with pytest.raises(PlanError, match="K"):
            halving(factors)
    with pytest.raises(PlanError, match="K=4"):
        check_factors(PAPER, [1, 2])


def test_an_allocation_may_come_from_a_configuration():
    assert Allocation([[1, 0.25], [4, 0.5], [2, 0.25]]) == PAPER
    assert hash(PAPER) == hash(Allocation(PAPER.shares))
