from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.service.forecast import Pace, Work, finishes
from headrace.service.pace_seen import PaceSeen

PACE = Pace(((0.0, 0.0), (1.0, 0.1), (4.0, 0.25)), picture_s=0.05)
ROWS = Pace(PACE.points)  # without decodings

works = st.lists(
    st.builds(Work, st.integers(0, 30), st.just(1.0), st.just(1), st.integers(-2, 2)), min_size=1, max_size=12
)


def test_a_round_is_as_long_as_its_cost_says():
    assert [PACE.round_s(cost) for cost in (0.5, 1, 2.5, 4)] == [0.05, 0.1, 0.175, 0.25]
    assert PACE.round_s(7) == 0.4  # as between the last two
    assert PACE.times(2).round_s(4) == 0.5
    assert Pace().round_s(3) == 0


def test_residents_share_rounds_and_others_wait_for_a_slot():
    pace = Pace(((0.0, 0.0), (1.0, 1.0), (2.0, 1.5)))
    inside = [Work(2, resident=True), Work(4, resident=True)]
    assert finishes(inside, 2, pace) == [3.0, 5.0]  # two rounds of both, two of one
    assert finishes([*inside, Work(2)], 2, pace) == [3.0, 6.0, 6.0]
    assert finishes([*inside, Work(2), Work(2, priority=1)], 2, pace)[2:] == [8.0, 6.0]


def test_a_large_picture_waits_until_all_its_slots_are_free_and_is_not_overtaken():
    pace = Pace(((0.0, 0.0), (1.0, 1.0)))
    assert finishes([Work(1, resident=True), Work(1, cost=2, slots=2), Work(1)], 2, pace) == [1.0, 3.0, 4.0]
    assert finishes([Work(1, cost=9, slots=9)], 2, pace) == [9.0]  # larger than all slots: alone


@settings(max_examples=80, deadline=None)
@given(works, st.integers(0, 12), st.integers(1, 5), st.data())
def test_more_work_makes_nobody_earlier(load, inside, slots, data):
    inside = min(inside, slots, len(load))
    load = [Work(one.rows, one.cost, 1, one.priority, index < inside) for index, one in enumerate(load)]
    before = finishes(load, slots, ROWS)
    place = data.draw(st.integers(0, len(load) - 1))
    longer = [*load]
    longer[place] = Work(load[place].rows + 3, load[place].cost, 1, load[place].priority, load[place].resident)
    for more in (finishes([*load, Work(5)], slots, ROWS)[:-1], finishes(longer, slots, ROWS)):
        assert all(after >= earlier - 1e-9 for after, earlier in zip(more, before, strict=True))
    assert all(one >= 0 for one in before)


@settings(max_examples=60, deadline=None)
@given(works, st.integers(1, 5), st.floats(1, 9))
def test_slower_rounds_make_everything_later_in_proportion(load, slots, factor):
    before, after = finishes(load, slots, PACE), finishes(load, slots, PACE.times(factor))
    assert all(abs(late - factor * early) < 1e-6 for late, early in zip(after, before, strict=True))


def test_without_a_table_the_pace_is_learnt_from_rounds():
    seen = PaceSeen()
    assert not seen.known
    assert seen.pace.round_s(5) == 0
    for turn in range(100):
        cost = 1 + turn % 8
        seen.observe(cost, turn % 3, 0.02 + 0.01 * cost + 0.005 * (turn % 3), 0.005 * (turn % 3))
    assert abs(seen.pace.round_s(4) - 0.06) < 1e-3
    assert abs(seen.pace.round_s(16) - 0.18) < 1e-2
    assert abs(seen.pace.picture_s - 0.005) < 1e-3


def test_rounds_of_one_cost_say_what_a_row_costs():
    seen = PaceSeen()
    for _ in range(5):
        seen.observe(4, 0, 0.2, 0.0)
    assert abs(seen.pace.round_s(4) - 0.2) < 1e-9


def test_a_table_is_corrected_by_what_is_seen_lately():
    seen = PaceSeen(PACE)
    assert seen.pace == PACE
    for _ in range(300):
        seen.observe(4, 0, 0.5, 0.0)
    assert abs(seen.pace.round_s(4) - 0.5) < 1e-6
    for _ in range(300):
        seen.observe(4, 0, 0.25, 0.0)
    assert abs(seen.pace.round_s(4) - 0.25) < 0.01
