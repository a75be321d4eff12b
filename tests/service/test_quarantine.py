"""Who is blamed: simulated lives of a process, in which some wishes kill it at a row of theirs."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.service.quarantine import Quarantine


def live(poison, innocent, slots, checkpoint, quarantine, killings=0, seed=0):
    """What becomes of wishes: ticket -> "done" or "poison". `poison` maps tickets to the row that they crash in.

    The first `killings` lives may be ended from outside at a random moment.
    """
    generator = random.Random(seed)
    rows = {**dict.fromkeys(poison, 12), **innocent}
    saved, ends = dict.fromkeys(rows, 0), {}
    for life in range(600):
        until = generator.randint(0, 10) if life < killings else 10_000
        row = {name: saved[name] for name in rows if name not in ends}
        if not row:
            return ends
        for turn in range(until + 1):
            alone = quarantine.alone
            here = [alone] if alone else [name for name in row if name not in ends][:slots]
            if not here:
                break
            crashed = [name for name in here if poison.get(name) == row[name]]
            if crashed or turn == until:
                blame = quarantine.crashed if crashed else quarantine.killed
                for name in blame({name: row[name] for name in here}):
                    ends[name] = "poison"
                    quarantine.over(name)
                break
            for name in here:
                row[name] += 1
                if row[name] >= rows[name]:
                    ends[name] = "done"
                    quarantine.over(name)
                elif row[name] % (1 if alone else checkpoint) == 0:
                    saved[name] = row[name]
                    quarantine.moved(name, row[name])
    return ends


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcde"), st.integers(0, 11), max_size=4),
    st.dictionaries(st.sampled_from("pqrstuvw"), st.integers(1, 14), min_size=1),
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(0, 30),
    st.integers(0, 1000),
)
def test_the_innocent_are_done_and_the_poison_fails(poison, innocent, slots, checkpoint, killings, seed):
    ends = live(poison, innocent, slots, checkpoint, Quarantine(kills=8), killings, seed)
    assert {name for name, end in ends.items() if end == "poison"} == set(poison)
    assert {name for name, end in ends.items() if end == "done"} == set(innocent)


def test_one_crash_in_company_and_one_alone_are_enough():
    quarantine = Quarantine()
    assert quarantine.crashed({"a": 3, "b": 7}) == []
    assert quarantine.alone == "a"
    assert not quarantine.moved("a", 3)
    assert quarantine.moved("a", 4)
    assert quarantine.alone == "b"
    assert quarantine.crashed({"b": 7}) == ["b"]


def test_who_is_alone_when_it_crashes_first_gets_a_second_chance():
    quarantine = Quarantine()
    assert quarantine.crashed({"a": 0}) == []
    assert quarantine.alone == "a"
    assert quarantine.crashed({"a": 0}) == ["a"]


def test_two_that_crash_together_but_not_alone_run_alone_to_their_ends():
    quarantine = Quarantine()
    for _ in range(2):
        assert quarantine.crashed({"a": 3, "b": 3}) == []
        quarantine.moved("a", 4)
        quarantine.moved("b", 4)
    assert quarantine.alone == "a"
    assert not quarantine.moved("a", 999)
    quarantine.over("a")
    assert quarantine.alone == "b"
    quarantine.over("b")
    assert quarantine.alone is None


def test_kills_count_only_where_nothing_moves():
    quarantine = Quarantine(kills=2)
    for row in range(50):
        assert quarantine.killed({"a": row}) == []
    assert quarantine.alone is None
    assert quarantine.killed({"a": 49}) == []
    assert quarantine.alone == "a"
    assert quarantine.killed({"a": 49}) == []
    assert quarantine.killed({"a": 49}) == ["a"]
