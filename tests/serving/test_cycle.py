"""One cycle of the synergetic policy: everything once, and the cheapest way to decode beside the rows."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tables import SQUARE, contended

from headrace.serving.policies.cycle import Batch, Cycles
from headrace.serving.policies.planners import Planners, Work
from headrace.serving.state import Task

LARGE = (1024, 1024)
TABLES = {lane: contended(lane, (SQUARE, LARGE)) for lane in ("streams", "interleaved")}
CYCLES = {lane: Cycles(table, Planners(table, 0.1)) for lane, table in TABLES.items()}


def rows(count, unguided=0):
    return [Task(number, SQUARE, 0.0, 20, 10, guided=number >= unguided) for number in range(count)]


def decoding(number, size=SQUARE, chunks=0, chunk=0):
    return Task(100 + number, size, 0.0, 20, 20, chunks=chunks, chunk=chunk)


PENDING = st.lists(
    st.tuples(st.sampled_from([SQUARE, LARGE]), st.sampled_from([(0, 0), (4, 1), (4, 3), (8, 2), (1, 0)])), max_size=8
)


@settings(max_examples=60, deadline=None)
@given(
    lane=st.sampled_from(["streams", "interleaved"]), count=st.integers(0, 40), unguided=st.integers(0, 5),
    skippable=st.integers(0, 40), pending=PENDING, others=st.integers(0, 200),
    counts=st.sampled_from([[1], [1, 4], [8]]), alone=st.booleans(), kept_out=st.integers(0, 3),
)  # fmt: skip
def test_every_row_once_and_no_chunk_twice(lane, count, unguided, skippable, pending, others, counts, alone, kept_out):
    tasks = rows(count, unguided)
    may_skip = frozenset(task.number for task in tasks[-skippable:] if task.guided) if skippable else frozenset()
    decodings = [decoding(number, size, *at) for number, (size, at) in enumerate(pending)]
    batch = Batch(tasks, may_skip, decodings, count + others, kept_out if count else 0, alone)
    rounds = CYCLES[lane].rounds(batch, counts)
    decoded = [number for decided in rounds for number in decided.decode]
    assert len(set(decoded)) == len(decoded)
    assert set(decoded) <= {task.number for task in decodings}
    if any(decided.rows for decided in rounds):
        assert sorted(number for decided in rounds for number in decided.rows) == list(range(count))
        assert len(decoded) == len(decodings)
        assert all(decided.rows for decided in rounds)
    else:
        assert bool(decoded) == bool(decodings)
        assert decodings or not tasks
    for decided in rounds:
        assert decided.skip <= may_skip & set(decided.rows)
        if any(task.chunks == 0 and task.number in decided.decode for task in decodings):
            assert decided.chunks in (*counts, 1)


def test_without_decodings_everything_runs_at_once_and_skips_what_it_may():
    (decided,) = CYCLES["streams"].rounds(Batch(rows(12), frozenset({3, 4}), [], 12), [1, 4])
    assert decided.rows == tuple(range(12))
    assert decided.skip == {3, 4}


def test_chunks_where_they_spare_many_and_whole_where_lanes_take_turns():
    busy = Batch(rows(16), frozenset(), [decoding(0)], 60)
    assert CYCLES["interleaved"].rounds(busy, [1, 8])[0].chunks == 1
    gentle = contended("streams", contention=0.05)
    many = Batch(rows(16), frozenset(), [decoding(0)], 60)
    assert Cycles(gentle, Planners(gentle, 0.1)).rounds(many, [1, 8])[0].rows  # beside them, for next to nothing
    fierce = contended("streams", contention=50.0)
    assert Cycles(fierce, Planners(fierce, 0.1)).rounds(many, [1])[0].rows == ()  # a pause of 100 ms is cheaper


def test_who_is_done_by_its_next_chunk_goes_first():
    pending = [decoding(0, chunks=8, chunk=2), decoding(1, chunks=8, chunk=7)]
    rounds = CYCLES["interleaved"].rounds(Batch(rows(4), frozenset(), pending, 4), [1])
    assert rounds[0].decode[0] == 101


def test_equal_questions_are_planned_once():
    table = TABLES["streams"]
    planners = Planners(table, 0.1)
    first = planners.plan(Work(SQUARE, 4, 12, 3, 5), 9)
    assert planners.plan(Work(SQUARE, 4, 12, 3, 5), 10) is first  # 9 and 10 who wait make no difference
    assert planners.plan(Work(SQUARE, 4, 12, 3, 6), 9) is not first
    for number in range(1, 17):
        for decodings in range(9):
            planners.plan(Work(SQUARE, 1, number, decodings, 0), number)
    assert len(planners._schedules) < 200


def test_more_rows_than_the_programme_holds_are_planned_in_units():
    planned = Planners(TABLES["streams"], 0.1).plan(Work(SQUARE, 1, 33, 1, 20), 33, split=False)
    assert (planned.row_unit, planned.skip_unit) == (3, 3)
    rounds = CYCLES["streams"].rounds(Batch(rows(33), frozenset(range(20)), [decoding(0)], 33), [1])
    assert sum(len(decided.rows) for decided in rounds) in (0, 33)
