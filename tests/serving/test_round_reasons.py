"""Why a round holds no more rows: what policies say of it is what they did."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from tables import SQUARE, contended

from headrace.serving.arrivals import Mix, poisson
from headrace.serving.policies.continuous import Continuous
from headrace.serving.policies.dynamic import Dynamic
from headrace.serving.policies.sequential import Sequential
from headrace.serving.scheduler import make_policy
from headrace.serving.simulator import simulate
from headrace.serving.state import Round, State, Task

SIZES = (SQUARE, (768, 768))
STREAMS, INTERLEAVED = contended("streams", SIZES), contended("interleaved", SIZES)


def task(number, row=0, size=SQUARE, **changes):
    return Task(number, size, 0.0, 10, row, **changes)


def state(waiting=(), denoising=(), decoding=(), in_flight=(), now=0.0, slots=2):
    return State(
        now,
        [task(number) for number in waiting],
        [task(number, 3) for number in denoising],
        [task(number, 10) for number in decoding],
        frozenset(in_flight),
        slots,
    )


@pytest.mark.parametrize(
    ("house", "reason"),
    [
        ({}, "all"),
        ({"waiting": [1]}, "all"),
        ({"waiting": [1, 2]}, "turn"),
        ({"denoising": [1]}, "all"),
        ({"denoising": [1], "waiting": [2]}, "turn"),
        ({"decoding": [1], "waiting": [2]}, "decoding"),
        ({"decoding": [1]}, "all"),
        ({"decoding": [1], "in_flight": [1], "waiting": [2]}, "decoding"),
    ],
)
def test_sequential(house, reason):
    assert Sequential().next(state(**house)).reason == reason


@pytest.mark.parametrize(
    ("house", "reason"),
    [
        ({}, "all"),
        ({"waiting": [1], "now": 0.1}, "window"),
        ({"waiting": [1], "now": 9.0}, "all"),
        ({"waiting": [1, 2, 3]}, "slots"),
        ({"denoising": [1], "waiting": [2]}, "batch"),
        ({"denoising": [1, 2]}, "all"),
        ({"decoding": [1], "waiting": [2]}, "decoding"),
        ({"decoding": [1], "in_flight": [1]}, "all"),
    ],
)
def test_dynamic(house, reason):
    assert Dynamic(0.5).next(state(**house)).reason == reason


@pytest.mark.parametrize(
    ("house", "reason"),
    [({}, "all"), ({"denoising": [1], "waiting": [2]}, "all"), ({"denoising": [1, 2], "waiting": [3]}, "slots")],
)
def test_continuous(house, reason):
    assert Continuous().next(state(**house)).reason == reason


def test_synergetic_says_what_bounds_a_batch():
    def reason(waiting=(), denoising=(), slots=64, **options):
        policy = make_policy("synergetic", INTERLEAVED, **options)
        return policy.next(State(1.0, list(waiting), list(denoising), [], frozenset(), slots)).reason

    many = [task(number, 3) for number in range(40)]
    assert reason(denoising=many[:2]) == "all"
    assert reason(denoising=many, max_rows=4) == "budget"
    assert reason(denoising=[*many[:2], task(90, 3, SIZES[1])]) == "size"
    assert reason(denoising=many[:4], waiting=[task(50), task(51)], slots=4) == "slots"
    assert reason(denoising=many[:4], waiting=[task(50), task(51)], slots=4, planning=False) == "slots"
    assert reason(denoising=many[:4], waiting=[task(50)], slots=8, planning=False) == "all"


def test_synergetic_says_where_a_smaller_batch_serves_better():
    """Twice the rows take twice the time here, so nothing is gained by waiting for one another."""
    policy = make_policy("synergetic", INTERLEAVED)
    batches = {count: policy._groups.batch(SQUARE, count) for count in (4, 16, 32)}
    for count, batch in batches.items():
        decided = policy.next(State(1.0, [], [task(number, 3) for number in range(count)], [], frozenset(), 64))
        expected = "all" if batch == count else "saturation"
        assert (len(decided.rows), decided.reason) == (batch, expected)


def test_synergetic_says_that_there_was_no_room():
    policy = make_policy("synergetic", STREAMS)
    large = [task(9, 0, SIZES[1], priority=9)]
    denoising = [task(number, 5) for number in range(4)]
    rounds = [policy.next(State(0.1 * moment, large, denoising, [], frozenset(), 16)) for moment in range(8)]
    closed = [decided for decided in rounds if 9 not in decided.admit]
    assert {"room"} <= {decided.reason for decided in closed}


class Watched:
    """A policy of which every round is checked against its reason."""

    def __init__(self, policy):
        self.policy, self.name = policy, policy.name
        self.reasons = Counter()

    def next(self, state):
        decided = self.policy.next(state)
        self.reasons[decided.reason] += 1
        check(state, decided)
        return decided

    def prepare(self, state):
        self.policy.prepare(state)


def check(state, decided):
    rows, left = set(decided.rows), [*state.denoising, *state.waiting]
    outside = [one for one in left if one.number not in rows]
    if decided.reason == "all":
        assert not outside
        return
    assert outside, decided.reason
    if decided.reason == "slots":
        assert len(decided.admit) == state.free < len(state.waiting)
    elif decided.reason in ("decoding", "window"):
        assert not rows
    elif decided.reason == "size":
        assert {one.size for one in left if one.number in rows}.isdisjoint(one.size for one in outside)
    elif decided.reason == "room":
        assert state.free
        assert state.waiting
    else:
        assert decided.reason in ("turn", "batch", "stage", "saturation", "budget", "fairness")


@pytest.mark.parametrize("name", ["sequential", "dynamic", "continuous", "synergetic", "synergetic without planning"])
@pytest.mark.parametrize("table", [STREAMS, INTERLEAVED])
@pytest.mark.parametrize("rate", [0.4, 25.0])
def test_every_round_of_every_policy_is_as_its_reason_says(name, table, rate):
    name, *without = name.split(" without ")
    policy = Watched(make_policy(name, table, **dict.fromkeys(without, False)))
    simulate(poisson(60, rate, Mix(sizes=SIZES, steps=(4, 10)), seed=3), table, lambda: policy, slots=6)
    assert "" not in policy.reasons
    assert len(policy.reasons) > 1 or rate < 1, policy.reasons


def test_a_reason_is_no_part_of_the_decision():
    assert Round(rows=(1,), reason="all") == Round(rows=(1,), reason="slots")
    assert np.unique([hash(Round(rows=(1,), reason=reason)) for reason in ("all", "slots")]).size == 1
