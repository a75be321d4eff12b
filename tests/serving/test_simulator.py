"""The simulator: what every policy must find true on it, and what theory says of the simplest one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from fake_policies import Greedy
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import SQUARE, contended, entry, grid, table

from headrace.errors import OrderError, ServingError
from headrace.serving.arrivals import Mix, burst, poisson
from headrace.serving.policies.sequential import Sequential
from headrace.serving.report import queue_over_time, summarise
from headrace.serving.round_durations import RoundDurations
from headrace.serving.simulator import simulate
from headrace.serving.state import Round
from headrace.serving.timeline import Timeline
from headrace.serving.trace import Trace

WIDE = (512, 1024)
TABLE = contended(sizes=(SQUARE, WIDE))
MIX = Mix(sizes=(SQUARE, WIDE), steps=(2, 6), guided=0.7)


def trace_of(times, steps=4, size=SQUARE):
    count = len(times)
    return Trace(
        np.asarray(times, float), np.full(count, size[0]), np.full(count, size[1]), np.full(count, steps),
        np.ones(count, bool), np.zeros(count, np.int64), np.full(count, np.inf),
    )  # fmt: skip


class Script:
    """Rounds from a list."""

    name = "script"

    def __init__(self, *rounds):
        self.rounds = list(rounds)
        self.seen = []

    def next(self, state):
        self.seen.append((state.now, sorted(state.in_flight)))
        return self.rounds.pop(0) if self.rounds else Round()

    def prepare(self, state):
        pass


def alone(trace):
    """The least seconds each request can take: no row but its own, no guidance, a whole decoding alone."""
    times = RoundDurations(TABLE)
    row = {size: TABLE.round_s({size: (1, 1)}, {})[0] for size in (SQUARE, WIDE)}
    sizes = list(zip(trace.height.tolist(), trace.width.tolist(), strict=True))
    return np.array(
        [steps * row[s] + times.decoding_alone_s(s) for steps, s in zip(trace.steps.tolist(), sizes, strict=True)]
    )


@given(
    draw=st.sampled_from([poisson, burst]),
    count=st.integers(1, 60),
    rate=st.floats(0.5, 50),
    seed=st.integers(0, 5),
    policy=st.sampled_from([Sequential, Greedy, lambda: Greedy(4), lambda: Greedy(3, skip=True)]),
    slots=st.integers(1, 6),
    replicas=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_every_request_is_served_once_and_never_faster_than_alone(draw, count, rate, seed, policy, slots, replicas):
    trace = draw(count, rate, MIX, seed)
    finished = []
    found = simulate(trace, TABLE, policy, slots, replicas, advance=finished.append)
    records = found.records
    assert sum(finished) == count
    assert np.isfinite(records.finished).all()
    assert (records.latency >= alone(trace) * (1 - 1e-9)).all()
    assert found.effort.rows == trace.steps.sum()
    assert found.effort.rounds >= trace.steps.max()
    resident = [(t, 1) for t in records.started] + [(t, -1) for t in records.finished]
    places = np.cumsum([change for _, change in sorted(resident)])
    assert places.max() <= slots * replicas
    assert (records.skips <= records.rows).all()
    assert np.array_equal(records.skips > 0, np.isfinite(records.first_skip))


def test_equal_seeds_give_equal_results():
    def run():
        return simulate(poisson(80, 10.0, MIX, seed=2), TABLE, lambda: Greedy(4), slots=4, replicas=2)

    one, other = run(), run()
    assert one.effort == other.effort
    for name, column in vars(one.records).items():
        assert np.array_equal(column, getattr(other.records, name), equal_nan=True)


def test_littles_law():
    records = simulate(poisson(400, 4.0, MIX), TABLE, Greedy, slots=8).records
    report = summarise(records)
    _, waiting = queue_over_time(records, points=200_000)
    assert waiting.mean() == pytest.approx(report.throughput * report.mean_waiting_s, rel=0.01)
    assert report.mean_queue == pytest.approx(report.throughput * report.mean_waiting_s)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_by_one_is_the_queue_of_pollaczek_and_khinchine(load):
    """M/D/1: equal requests, Poisson arrivals, one server: waiting is load / (2 (1 - load)) of a service."""
    service = 4 * TABLE.round_s({SQUARE: (1, 0)}, {})[0] + TABLE.round_s({}, {SQUARE: 1})[1]
    trace = poisson(8000, load / service, Mix(sizes=(SQUARE,), steps=(4, 4)), seed=1)
    report = summarise(simulate(trace, TABLE, Sequential).records)
    assert report.mean_waiting_s == pytest.approx(service * load / (2 * (1 - load)), rel=0.1)
    assert report.mean_latency_s - report.mean_waiting_s == pytest.approx(service)


def test_replicas_share_the_work():
    trace = poisson(200, float("inf"), MIX)
    spans = [simulate(trace, TABLE, Greedy, slots=4, replicas=n).records.span for n in (1, 2, 4)]
    assert spans[0] / spans[1] == pytest.approx(2, rel=0.1)
    assert spans[0] / spans[2] == pytest.approx(4, rel=0.15)


def test_a_request_goes_to_the_replica_with_the_least_work_left():
    long_first = dataclasses.replace(trace_of([0.0, 0.01, 0.02]), steps=np.array([100, 2, 2]))
    records = simulate(long_first, TABLE, Sequential, replicas=2).records
    assert records.started[1] == 0.01
    assert records.started[2] == pytest.approx(records.finished[1])


def test_a_chunk_outlives_the_rows_and_its_rest_is_load():
    """Rows of 10 ms, slower by the load beside them, and a decoding of 50 ms that advances as if it were alone."""
    flat = table(entry(SQUARE, grid(lambda u, v, s: 0.01 * (1 + v), lambda u, v, s: 0.05 * v)), chunks=1)
    script = Script(
        Round(admit=(0, 1), rows=(0, 1)),
        Round(rows=(1,), decode=(0,)),
        Round(rows=(1,)),
        Round(rows=(1,)),
        Round(decode=(1,)),
    )
    trace = dataclasses.replace(trace_of([0.0, 0.0]), steps=np.array([1, 4]))
    records = simulate(trace, flat, lambda: script, slots=2).records
    # The next row takes 20 ms of the chunk's 50; the row after it runs beside 0.6 of a chunk, the last beside 0.28.
    # What is left then, 1.2 ms, shares the decoder with the next chunk until it is done.
    moments = [0.0, 0.01, 0.03, 0.046, 0.0588, 0.0612, 0.11]
    assert [now for now, _ in script.seen] == pytest.approx(moments, abs=5e-4)  # loads are rounded
    assert [flying for _, flying in script.seen] == [[], [], [0], [0], [0], [1], []]
    assert records.finished.tolist() == [script.seen[-2][0], script.seen[-1][0]]


def test_chunks_of_different_counts_share_a_round():
    script = Script(
        Round(admit=(0, 1), rows=(0, 1)),
        Round(decode=(0,), chunks=1),
        Round(decode=(1,), chunks=4),
        *[Round(decode=(1,))] * 3,
    )
    records = simulate(trace_of([0.0, 0.0], steps=1), TABLE, lambda: script, slots=2).records
    assert np.isfinite(records.finished).all()
    assert records.finished[0] < records.finished[1]


def test_a_policy_may_wait_for_a_moment_or_an_arrival():
    script = Script(
        Round(wait_until=0.3), Round(wait_until=5.0), Round(admit=(0, 1), rows=(0, 1)), Round(decode=(0, 1))
    )
    simulate(trace_of([0.1, 0.7], steps=1), TABLE, lambda: script, slots=2)
    assert [now for now, _ in script.seen[:3]] == [0.1, 0.3, 0.7]


@pytest.mark.parametrize(
    ("rounds", "words"),
    [
        ([Round(admit=(7,))], "admits 7"),
        ([Round(admit=(0, 1, 2), rows=(0,))], "2 slots"),
        ([Round(rows=(0,))], "rows or skips of"),
        ([Round(admit=(0,), rows=(0, 0))], "a row twice"),
        ([Round(admit=(0,), rows=(0,), skip=frozenset({1}))], "rows or skips of"),
        ([Round(admit=(0,), rows=(0,)), Round(rows=(0,))], "rows or skips of"),
        ([Round(admit=(0,), decode=(0,))], "decodes"),
        ([Round(admit=(0, 1), rows=(0, 1)), Round(decode=(0,), chunks=0)], "0 chunks"),
        ([Round(wait_until=0.0)], "waits until"),
    ],
)
def test_rounds_that_cannot_be_run(rounds, words):
    with pytest.raises(OrderError, match=words):
        simulate(trace_of([0.0, 0.0, 0.0], steps=1), TABLE, lambda: Script(*rounds), slots=2)


def test_a_chunk_in_flight_cannot_be_ordered_again():
    slow = table(entry(SQUARE, grid(lambda u, v, s: 0.01, lambda u, v, s: 1.0 * v)), chunks=1)
    trace = dataclasses.replace(trace_of([0.0, 0.0]), steps=np.array([1, 4]))
    script = Script(Round(admit=(0, 1), rows=(0, 1)), Round(rows=(1,), decode=(0,)), Round(decode=(0,)))
    with pytest.raises(OrderError, match="still runs"):
        simulate(trace, slow, lambda: script, slots=2)


def test_a_row_without_an_unconditional_branch_has_none_to_skip():
    unguided = dataclasses.replace(trace_of([0.0]), guided=np.zeros(1, bool))
    script = Script(Round(admit=(0,), rows=(0,), skip=frozenset({0})))
    with pytest.raises(OrderError, match="has none"):
        simulate(unguided, TABLE, lambda: script)


def test_a_policy_that_stalls_is_told_so():
    with pytest.raises(ServingError, match="'script' stalls with 0 requests waiting, 1 denoising"):
        simulate(trace_of([0.0]), TABLE, lambda: Script(Round(admit=(0,), rows=(0,))))


@pytest.mark.parametrize("values", [{"slots": 0}, {"replicas": 0}])
def test_no_slots_and_no_replicas(values):
    with pytest.raises(ServingError, match="at least 1"):
        simulate(trace_of([0.0]), TABLE, Greedy, **values)


def test_the_timeline_holds_the_rounds_of_its_stretch():
    timeline = Timeline(start=1.0, limit=40)
    records = simulate(
        poisson(100, 10.0, MIX), TABLE, lambda: Greedy(4), slots=4, replicas=2, timeline=timeline
    ).records
    assert len(timeline.rounds) == 40
    assert {one.replica for one in timeline.rounds} == {0, 1}
    assert all(one.start >= 1.0 and one.end > one.start for one in timeline.rounds)
    whole = Timeline(limit=10**9)
    simulate(poisson(100, 10.0, MIX), TABLE, lambda: Greedy(4), slots=4, replicas=2, timeline=whole)
    assert sum(rows for one in whole.rounds for rows, _ in one.groups.values()) == records.rows.sum()
    assert len(whole.chunks) == 4 * len(records)
    assert all(chunk.end > chunk.start for chunk in whole.chunks)


def test_skipped_rows_are_faster_and_on_record():
    trace = poisson(50, float("inf"), Mix(sizes=(SQUARE,), steps=(4, 4)))
    plain, skipped = (simulate(trace, TABLE, lambda skip=skip: Greedy(4, skip)).records for skip in (False, True))
    assert skipped.span < plain.span
    assert skipped.skips.tolist() == [2] * 50
    assert skipped.first_skip.tolist() == [0.5] * 50
    assert not plain.skips.any()
