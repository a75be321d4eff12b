"""The dynamic programme against every schedule there is, on tables of any shape; Table I; what it refuses."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_one import TABLE_I

from headrace.errors import ServingError
from headrace.serving.schedule import Schedule, Stage, StagePlanner, within_threshold

ROWS, DECODINGS, SKIPS = 5, 3, 2


def sequences(rows, decodings, skips):
    """Every sequence of stages with a row each that does all of the work."""
    if rows == 0:
        return [[]] if decodings == 0 else []
    return [
        [(u, v, s), *rest]
        for u in range(1, rows + 1)
        for v in range(decodings + 1)
        for s in range(min(u, skips) + 1)
        for rest in sequences(rows - u, decodings - v, skips - s)
    ]


@cache
def every_schedule(rows, decodings, skips):
    """Their stages as indices [schedule, stage], padded with 0, and the decodings in each."""
    found = sequences(rows, decodings, skips)
    stages = np.zeros((len(found), rows), dtype=int)
    decoded = np.zeros((len(found), rows))
    for line, schedule in enumerate(found):
        for column, (u, v, s) in enumerate(schedule):
            stages[line, column] = (u * (DECODINGS + 1) + v) * (SKIPS + 1) + s
            decoded[line, column] = v
    return stages, decoded


def exhaustive(unet, vae, rows, decodings, skips, eta, weight):
    """Least cost of all schedules within the bound, by evaluating each."""
    stages, decoded = every_schedule(rows, decodings, skips)
    times, finish = unet.ravel()[stages], vae.ravel()[stages]
    total = times.sum(axis=1)
    cost = (decoded * (np.cumsum(times, axis=1) - times + finish)).sum(axis=1) + weight * total
    coarsest = unet[rows, decodings, : min(rows, skips) + 1].min()
    return cost[total <= (1 + eta) * coarsest * (1 + 1e-12)].min()


def random_latencies(rng):
    """Tables that no machine has, too: superlinear, not monotone, rows that take no time."""
    u, v, s = np.meshgrid(range(ROWS + 1), range(DECODINGS + 1), range(SKIPS + 1), indexing="ij")
    work = np.maximum(u - rng.uniform(0, 1) * s, 0.1)
    unet = (rng.uniform(0, 3) + work ** rng.uniform(0.3, 1.5)) * (1 + rng.uniform(0, 1) * v)
    vae = rng.uniform(0, 5) * v ** rng.uniform(0.5, 1.5) * (1 + rng.uniform(0, 0.5) * work)
    spread = rng.choice([0.0, 0.05, 0.9])
    unet = unet * rng.uniform(1 - spread, 1 + spread, unet.shape) * (u > 0)
    vae = vae * rng.uniform(1 - spread, 1 + spread, vae.shape) * (v > 0)
    if rng.random() < 0.2:
        unet, vae = np.round(unet), np.round(vae)  # many equal sums
    return unet, vae


@pytest.mark.parametrize("seed", range(8))
def test_no_schedule_is_better(seed):
    rng = np.random.default_rng(seed)
    split = 0
    for _ in range(100):
        unet, vae = random_latencies(rng)
        planner = StagePlanner(unet, vae)
        for _ in range(6):
            rows, decodings, skips = rng.integers((1, 0, 0), (ROWS, DECODINGS, SKIPS), endpoint=True).tolist()
            eta = float(rng.choice([0.0, 0.05, 0.1, 0.5, 3.0]))
            weight = float(rng.choice([0.0, 0.0, 0.5, 4.0])) if decodings else 1.0
            found = planner.plan(rows, decodings, skips, eta, weight)
            check(found, unet, vae, rows, decodings, skips, eta)
            split += len(found.stages) > 1
            expected = exhaustive(unet, vae, rows, decodings, skips, eta, weight)
            assert found.cost + weight * found.unet_s == pytest.approx(expected, rel=1e-8, abs=1e-12)
    assert split > 50  # it is not the coarsest stage everywhere


def check(schedule: Schedule, unet, vae, rows, decodings, skips, eta):
    """It does all of the work, keeps to the bound, and its figures are what its stages cost."""
    assert sum(stage.rows for stage in schedule.stages) == rows
    assert sum(stage.decodings for stage in schedule.stages) == decodings
    assert sum(stage.skipped for stage in schedule.stages) <= skips
    assert all(0 <= stage.skipped <= stage.rows and stage.rows > 0 for stage in schedule.stages)
    start = cost = 0.0
    for stage in schedule.stages:
        point = (stage.rows, stage.decodings, stage.skipped)
        cost += stage.decodings * (start + vae[point])
        start += unet[point]
    assert (schedule.unet_s, schedule.cost) == pytest.approx((start, cost))
    coarsest = unet[rows, decodings, : min(rows, skips) + 1].min()
    assert start <= (1 + eta) * coarsest * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_without_rows_decodings_are_batched_as_is_best(seed):
    rng = np.random.default_rng(seed)
    unet, vae = random_latencies(rng)
    found = StagePlanner(unet, vae).plan(0, 3, 0)
    batches = [[3], [1, 2], [2, 1], [1, 1, 1]]
    costs = [sum(sum(way[i:]) * vae[0, many, 0] for i, many in enumerate(way)) for way in batches]
    assert found.cost == pytest.approx(min(costs))
    assert sum(stage.decodings for stage in found.stages) == 3
    assert all(stage.rows == 0 for stage in found.stages)
    assert StagePlanner(unet, vae).plan(0, 0).stages == ()


def paper_like(contention=0.05, shape=(17, 9, 9)):
    u, v, s = np.meshgrid(*map(np.arange, shape), indexing="ij")
    work = u - 0.5 * np.minimum(u, s)
    return (0.02 + 0.012 * work) * (1 + contention * v) * (u > 0), 0.06 * v * (1 + 0.03 * work)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 16), decodings=st.integers(0, 8), skips=st.integers(0, 8),
    etas=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)  # fmt: skip
def test_a_larger_eta_is_never_worse_and_more_skips_neither(rows, decodings, skips, etas):
    planner = StagePlanner(*paper_like())
    low, high = (planner.plan(rows, decodings, skips, eta) for eta in sorted(etas))
    assert high.cost <= low.cost * (1 + 1e-9)
    fewer = planner.plan(rows, decodings, 0, 0.5, weight=2.0)
    more = planner.plan(rows, decodings, skips, 0.5, weight=2.0)
    if fewer.unet_s <= 1.5 * planner.coarsest(rows, decodings, skips).unet_s:  # skips move the bound, too
        assert more.cost + 2 * more.unet_s <= (fewer.cost + 2 * fewer.unet_s) * (1 + 1e-9)


def test_what_was_planned_before_changes_nothing():
    first, used = StagePlanner(*paper_like()), StagePlanner(*paper_like())
    for rows in range(1, 17):
        used.plan(rows, 8, 3, 0.2)
    assert used.plan(11, 7, 8, 0.1) == first.plan(11, 7, 8, 0.1)


def test_where_nothing_is_gained_nothing_is_split():
    u, v, _ = np.meshgrid(range(9), range(5), range(1), indexing="ij")
    serial = StagePlanner(0.01 * u + 0.1 * v, 0.1 * v.astype(float))  # one lane, the decodings first
    assert serial.plan(8, 1, eta=0.0).stages == (Stage(8, 1),)
    assert serial.plan(8, 2, eta=0.0).cost == pytest.approx(0.1 + 0.21)  # the first need not wait for the second
    assert serial.plan(8, 0).stages == (Stage(8, 0),)
    overhead = StagePlanner((0.05 + 0.01 * u) * (u > 0), 0.1 * v)
    assert overhead.plan(8, 2, eta=10.0, weight=100.0).stages == (Stage(8, 2),)


@pytest.mark.parametrize(("eta", "chosen"), [(0.0, (6,)), (0.05, (3, 3)), (0.1, (1, 2, 3)), (0.2, (1, 1, 1, 1, 1, 1))])
def test_the_threshold_picks_from_table_one_what_a_reader_would(eta, chosen):
    unet, vae = zip(*TABLE_I.values(), strict=True)
    assert list(TABLE_I)[within_threshold(unet, vae, eta)] == chosen


@pytest.mark.parametrize("eta", [-0.1, float("nan"), float("inf"), "0.1", None])
def test_an_eta_that_is_none_is_refused(eta):
    with pytest.raises(ServingError, match="eta"):
        StagePlanner(*paper_like()).plan(4, 1, eta=eta)
    with pytest.raises(ServingError, match="eta"):
        within_threshold([1.0], [1.0], eta)


def test_what_the_latencies_do_not_know_is_refused():
    planner = StagePlanner(*paper_like(shape=(5, 3, 3)))
    for counts in ((5, 0, 0), (1, 3, 0), (1, 1, 3), (-1, 0, 0)):
        with pytest.raises(ServingError, match="to be planned"):
            planner.plan(*counts)
    with pytest.raises(ServingError, match="weight"):
        planner.plan(1, 1, weight=-1.0)
    for unet, vae in (
        (np.zeros((0, 1, 1)), np.zeros((0, 1, 1))),
        (np.zeros((2, 1)), np.zeros((2, 1))),
        (np.zeros((2, 2, 1)), np.zeros((2, 1, 1))),
        (np.full((2, 2, 1), np.nan), np.zeros((2, 2, 1))),
        (np.full((2, 2, 1), -1.0), np.zeros((2, 2, 1))),
    ):
        with pytest.raises(ServingError):
            StagePlanner(unet, vae)
    with pytest.raises(ServingError, match="one of each"):
        within_threshold([], [], 0.1)
