"""The synergetic policy on a virtual clock: sound rounds, bounded waiting, quality, and what it gains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tables import SQUARE, contended

from headrace.errors import ServingError
from headrace.serving.arrivals import Mix, poisson
from headrace.serving.scheduler import ABLATIONS, POLICIES, make_policy
from headrace.serving.simulator import simulate
from headrace.serving.skip_window import SkipWindow
from headrace.serving.state import State, Task
from headrace.serving.trace import Trace

SIZES = (SQUARE, (768, 768), (1024, 1024))
STREAMS, INTERLEAVED = contended("streams", SIZES), contended("interleaved", SIZES)
WINDOW = SkipWindow((0.2, 0.6, 0.9), (0.1, 0.3, 0.6), ((0.9, 0.6, 0.2), (0.98, 0.92, 0.85), (1.0, 0.99, 0.97)))
SLOTS = 8


class Watched:
    """A policy that is looked at: each state, and what was decided."""

    def __init__(self, policy, prepare=False):
        self.policy, self.name, self.prepared = policy, policy.name, prepare
        self.decided = []

    def next(self, state):
        decided = self.policy.next(state)
        seen = replace(state, waiting=list(state.waiting), denoising=list(state.denoising))
        self.decided.append((seen, decided, getattr(self.policy, "tau", None)))
        if self.prepared:
            self.policy.prepare(state)
        return decided

    def prepare(self, state):
        self.policy.prepare(state)


def trace_of(tasks):
    """A trace of (time, size, steps, priority, deadline)."""
    time, size, steps, priority, deadline = zip(*sorted(tasks, key=lambda task: task[0]), strict=True)
    return Trace(
        time=np.array(time, float), height=np.array([s[0] for s in size]), width=np.array([s[1] for s in size]),
        steps=np.array(steps), guided=np.ones(len(tasks), bool), priority=np.array(priority),
        deadline=np.array(time) + np.array(deadline, float),
    )  # fmt: skip


TASKS = st.lists(
    st.tuples(
        st.floats(0, 10), st.sampled_from(SIZES), st.integers(1, 12), st.sampled_from([0, 0, 0, 1, 5, -3]),
        st.sampled_from([0.05, 1.0, np.inf, np.inf]),
    ),
    min_size=1, max_size=40,
)  # fmt: skip
OPTIONS = st.fixed_dictionaries({name: st.booleans() for name in ABLATIONS} | {"patience": st.sampled_from([1, 5, 64])})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tasks=TASKS, options=OPTIONS, table=st.sampled_from([STREAMS, INTERLEAVED]), slots=st.integers(1, 9))
def test_everyone_is_served_by_rounds_that_can_be_run(tasks, options, table, slots):
    watched = Watched(make_policy("synergetic", table, WINDOW, **options))
    found = simulate(trace_of(tasks), table, lambda: watched, slots=slots)  # raises for a round that cannot be run
    assert len(found.records) == len(tasks)
    for state, decided, tau in watched.decided:
        tasks_now = {task.number: task for task in (*state.denoising, *state.waiting)}
        assert all(WINDOW.allows(tasks_now[number], tau) for number in decided.skip)
        assert tau >= 0.87
        assert not decided.skip or options["skipping"]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 1000), patience=st.integers(1, 6), overtakes=st.integers(1, 6), ageing=st.floats(1, 3))
def test_nobody_waits_longer_than_the_stated_bound(seed, patience, overtakes, ageing):
    table, slots = STREAMS, 4
    rng = np.random.default_rng(seed)
    tasks = [
        (rng.uniform(0, 4), SIZES[rng.choice(3, p=(0.8, 0.1, 0.1))], int(rng.integers(1, 20)), int(rng.choice([0, 3])),
         np.inf) for _ in range(40)
    ]  # fmt: skip
    policy = make_policy("synergetic", table, WINDOW, patience=patience, overtakes=overtakes, ageing=ageing)
    watched = Watched(policy)
    simulate(trace_of(tasks), table, lambda: watched, slots=slots)
    passed: dict[int, int] = {}
    overtaken: dict[int, int] = {}
    for state, decided, _ in watched.decided:
        for task in state.denoising:
            passed[task.number] = 0 if task.number in decided.rows else passed.get(task.number, 0) + 1
            assert passed[task.number] <= patience + slots * (16 + slots * table.max_chunks)
        for task in state.waiting[:32]:
            if task.number not in decided.admit:
                later = sum(number > task.number for number in decided.admit)
                overtaken[task.number] = overtaken.get(task.number, 0) + later
                assert overtaken[task.number] < overtakes + slots  # one round may admit several


@pytest.mark.parametrize("table", [STREAMS, INTERLEAVED])
def test_working_ahead_changes_nothing(table):
    trace = poisson(60, 3.0, Mix(sizes=SIZES, steps=(5, 15)), seed=3)
    plain, ahead = (Watched(make_policy("synergetic", table, WINDOW), prepare) for prepare in (False, True))
    for watched in (plain, ahead):
        simulate(trace, table, lambda watched=watched: watched, slots=SLOTS)
    assert [entry[1] for entry in plain.decided] == [entry[1] for entry in ahead.decided]


def figures(trace, table, name, **options):
    found = simulate(trace, table, lambda: make_policy(name, table, WINDOW, **options), slots=SLOTS).records
    latency = found.latency
    return len(found) / found.finished.max(), latency.mean(), np.percentile(latency, 99)


def capacity(table):
    """Requests a second that continuous batching serves when all are there at once."""
    return figures(poisson(150, np.inf, Mix(sizes=SIZES), seed=1), table, "continuous")[0]


@pytest.mark.parametrize("table", [STREAMS, INTERLEAVED])
@pytest.mark.parametrize("options", [{}, {"skipping": False}])
def test_at_low_load_it_is_never_worse_than_continuous(table, options):
    trace = poisson(150, 0.4 * capacity(table), Mix(sizes=SIZES), seed=2)
    throughput, mean, slowest = figures(trace, table, "continuous")
    own_throughput, own_mean, own_slowest = figures(trace, table, "synergetic", **options)
    assert own_throughput >= 0.99 * throughput
    assert own_mean <= 1.001 * mean
    assert own_slowest <= 1.02 * slowest


@pytest.mark.parametrize("table", [STREAMS, INTERLEAVED])
def test_at_high_load_it_is_better_in_all_respects(table):
    trace = poisson(200, 1.5 * capacity(table), Mix(sizes=SIZES), seed=2)
    throughput, mean, slowest = figures(trace, table, "continuous")
    own_throughput, own_mean, own_slowest = figures(trace, table, "synergetic")
    assert own_throughput > 1.05 * throughput
    assert own_mean < 0.8 * mean
    assert own_slowest < 0.9 * slowest


def test_every_part_of_it_is_worth_something_under_load():
    trace = poisson(150, 1.4 * capacity(STREAMS), Mix(sizes=SIZES), seed=4)
    whole = figures(trace, STREAMS, "synergetic")
    assert figures(trace, STREAMS, "synergetic", chunking=False)[1] > whole[1]
    assert figures(trace, STREAMS, "synergetic", skipping=False)[0] < whole[0]
    assert figures(trace, STREAMS, "synergetic", control=False, tau=1.0)[0] < whole[0]


@pytest.mark.parametrize("table", [STREAMS, INTERLEAVED])
@pytest.mark.parametrize("size", SIZES)
def test_a_request_alone_takes_no_longer_than_alone(table, size):
    alone = trace_of([(0.0, size, 20, 0, np.inf)])
    assert figures(alone, table, "synergetic")[1] <= figures(alone, table, "sequential")[1] * (1 + 1e-9)


def test_equal_pictures_are_decoded_one_by_one_where_lanes_are_interleaved():
    policy = make_policy("synergetic", INTERLEAVED, WINDOW)
    done = [Task(number, SQUARE, 0.0, 20, 20) for number in range(2)]
    busy = [Task(number, SQUARE, 0.0, 20, 5) for number in range(2, 6)]
    assert len(policy.next(State(1.0, [], busy, done, frozenset(), SLOTS)).decode) == 1


def test_priority_and_deadline_go_first():
    same = [(0.0, SQUARE, 20, 0, np.inf)] * 30
    for marked in ((0.001, SQUARE, 20, 9, np.inf), (0.001, SQUARE, 20, 0, 3.0)):
        found = simulate(trace_of([*same, marked]), STREAMS, lambda: make_policy("synergetic", STREAMS), slots=4)
        assert np.argsort(np.argsort(found.records.finished))[-1] < 8  # it came last, and is among the first


def test_priority_goes_first_among_sizes_too_where_the_house_is_crowded():
    crowd = [(0.0, size, 20, 0, np.inf) for size in SIZES * 12]
    ranks = []
    for priority in (0, 2, 6):
        trace = trace_of([*crowd, (0.001, SIZES[2], 20, priority, np.inf)])
        found = simulate(trace, STREAMS, lambda: make_policy("synergetic", STREAMS), slots=6).records
        ranks.append(int((found.started < found.started[-1]).sum()))
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[-1] <= 6 < ranks[0]  # the six slots that were free before it came


def test_what_waits_longest_goes_first_where_all_else_is_equal():
    equal = trace_of([(0.01 * number, SQUARE, 10, 0, np.inf) for number in range(30)])
    found = simulate(equal, STREAMS, lambda: make_policy("synergetic", STREAMS), slots=4).records
    assert (np.diff(found.started) >= 0).all()


def test_residents_run_while_the_engine_has_no_room_for_who_is_asked_in():
    policy = make_policy("synergetic", STREAMS)
    large = [Task(9, SIZES[2], 0.0, 1, priority=9)]
    denoising = [Task(number, SQUARE, 0.0, 40, 5) for number in range(4)]
    rounds = [policy.next(State(0.1 * moment, large, denoising, [], frozenset(), 16)) for moment in range(20)]
    assert any(9 in decided.admit for decided in rounds)
    assert sum(set(decided.rows) <= {0, 1, 2, 3} and bool(decided.rows) for decided in rounds) >= 14


def test_requests_that_were_cancelled_within_a_cycle_are_passed_over():
    policy = make_policy("synergetic", STREAMS, eta=5.0)
    decoding = [Task(number, SQUARE, 0.0, 20, 20) for number in range(8)]
    denoising = [Task(number, SQUARE, 0.0, 20, 5) for number in range(8, 16)]
    policy.next(State(1.0, [], denoising, decoding, frozenset(), 16))
    left = policy.next(State(1.1, [], denoising[:1], [], frozenset(), 16))
    assert set(left.rows) <= {8}
    assert left.decode == ()
    assert policy.next(State(1.2, [], [], [], frozenset(), 16)).idle


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("fifo", {}, "no policy 'fifo'"),
        ("continuous", {"eta": 0.1}, "no option 'eta'"),
        ("synergetic", {"taus": 0.1}, "no option 'taus'"),
        ("synergetic", {"eta": -0.1}, "eta is -0.1"),
        ("synergetic", {"eta": float("nan")}, "eta is nan"),
        ("synergetic", {"tau": 1.1}, "tau is 1.1"),
        ("synergetic", {"tau_min": -1}, "tau_min is -1"),
        ("synergetic", {"tau_min": 0.9, "tau_max": 0.8}, "above tau_max"),
        ("synergetic", {"ageing": 0.5}, "ageing is 0.5"),
        ("synergetic", {"patience": 0}, "patience is 0"),
        ("synergetic", {"low": 2.0, "high": 1.0}, "low is 2.0"),
        ("dynamic", {"window_s": -1.0}, "window_s is -1.0"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(name, options, words):
    with pytest.raises(ServingError, match=words):
        make_policy(name, STREAMS, WINDOW, **options)


def test_every_policy_has_its_name():
    assert [make_policy(name, STREAMS).name for name in POLICIES] == list(POLICIES)
