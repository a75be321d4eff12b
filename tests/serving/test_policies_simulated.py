"""The synergetic policy in the simulator: its controller at rest, and its promise of quality."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.serving.arrivals import Mix, burst, poisson
from headrace.serving.load_study import CONTENDERS, House, Workload, run
from headrace.serving.paper import paper_window, shipped_table
from headrace.serving.report import expected_similarity
from headrace.serving.scheduler import make_policy
from headrace.serving.simulator import simulate
from headrace.serving.trace import Trace

TABLE, WINDOW = shipped_table(), paper_window()
SIZE = (512, 512)


class Watched:
    """A policy whose tau and chunk count are written down round by round."""

    def __init__(self, policy):
        self.policy = policy
        self.name = policy.name
        self.settings = []

    def next(self, state):
        decided = self.policy.next(state)
        self.settings.append((state.now, self.policy.tau, self.policy.chunks))
        return decided

    def prepare(self, state):
        self.policy.prepare(state)


def regular(count, rate, steps=30):
    """Equal requests at equal distances."""
    return Trace(
        np.arange(count) / rate, np.full(count, SIZE[0]), np.full(count, SIZE[1]), np.full(count, steps),
        np.ones(count, bool), np.zeros(count, np.int64), np.full(count, np.inf),
    )  # fmt: skip


def swings(values, least):
    """How often a sequence turns round after it moved by at least so much one way, by as much the other way."""
    low = high = values[0]
    way, found = 0, 0
    for value in values:
        low, high = min(low, value), max(high, value)
        if way >= 0 and value <= high - least:
            way, found, low, high = -1, found + (way > 0), value, value
        elif way <= 0 and value >= low + least:
            way, found, low, high = 1, found + (way < 0), value, value
    return found


def test_swings_are_counted():
    assert swings([0, 1, 2, 3, 3], 2) == 0
    assert swings([0, 3, 2, 3, 2, 3], 2) == 0
    assert swings([0, 3, 0, 3, 0], 2) == 3


@pytest.mark.parametrize("load", [0.4, 0.8, 1.0, 1.2])
def test_the_controller_does_not_oscillate_under_constant_load(load):
    capacity = House(TABLE, WINDOW).capacity(Mix((SIZE,), (30, 30)))
    watched = Watched(make_policy("synergetic", TABLE, WINDOW))
    simulate(regular(300, load * capacity), TABLE, lambda: watched)
    moments, taus, chunks = (np.array(column) for column in zip(*watched.settings, strict=True))
    settled = (moments > 0.3 * moments[-1]) & (moments < 0.9 * moments[-1])
    assert swings(taus[settled], 0.02) <= 1
    assert swings(chunks[settled], 2) <= 1


@given(
    st.sampled_from([poisson, burst]),
    st.floats(0.5, 3.0),
    st.sampled_from([0.5, 0.8, 0.9, 0.97, 1.0]),
    st.sampled_from([name for name in CONTENDERS if name == "synergetic" or name.startswith("no-")]),
    st.integers(0, 3),
)
@settings(max_examples=12, deadline=None)
def test_no_picture_falls_below_the_quality_floor(draw, rate, floor, policy, seed):
    house = House(TABLE, WINDOW, slots=8, floor=floor)
    found = run(house, policy, Workload("drawn", draw(40, rate, Mix(steps=(5, 30)), seed)))
    least = min(floor, 0.95) if policy == "no-control" else floor
    assert (expected_similarity(found.records, WINDOW) >= least - 1e-9).all()
    if floor == 1.0 and policy != "no-control":
        assert not found.records.skips.any()


def test_quality_is_spent_under_load_and_kept_without_it():
    house = House(TABLE, WINDOW, floor=0.9)
    capacity = house.capacity(Mix())
    quiet, busy = (
        run(house, "synergetic", Workload.drawn("poisson", 120, load * capacity, Mix())).report for load in (0.2, 2.0)
    )
    assert quiet.similarity > 0.995
    assert quiet.skipped_share < 0.02
    assert busy.skipped_share > 0.15
    assert busy.worst_similarity >= 0.9 - 1e-9


def test_it_is_better_than_every_baseline_on_the_papers_contention():
    house = House(TABLE, WINDOW)
    workload = Workload.drawn("poisson", 150, 1.5 * house.capacity(Mix()), Mix())
    ours, *others = (
        run(house, name, workload).report for name in ("synergetic", "sequential", "dynamic", "continuous")
    )
    for other in others:
        assert ours.throughput >= 0.99 * other.throughput
        assert ours.mean_latency_s < other.mean_latency_s
        assert ours.p99_latency_s < other.p99_latency_s
