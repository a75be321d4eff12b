"""Durations of rounds: what a table says, looked up once, and how far decodings are in between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import SQUARE, contended

from headrace.serving.round_durations import RoundDurations

WIDE = (512, 1024)
TABLE = contended(sizes=(SQUARE, WIDE))
sizes = st.sampled_from([SQUARE, WIDE])
rows_of = st.tuples(st.integers(1, 8), st.integers(0, 1))
groups = st.dictionaries(sizes, rows_of, max_size=2)
decodings = st.dictionaries(sizes, st.sampled_from([0.25, 0.5, 1.0, 1.75, 3.0]), min_size=1, max_size=2)


@given(groups, decodings, st.integers(1, 4), st.floats(0.01, 1.0))
def test_shares_and_moments_are_two_ways_to_say_the_same(rows, loads, chunks, share):
    time = RoundDurations(TABLE)(rows, loads, chunks)
    moment = time.moment(share)
    assert 0 < moment <= time.vae_s * (1 + 1e-9)
    assert time.share(moment) == pytest.approx(share, abs=1e-6)
    assert time.moment(1.0) == pytest.approx(time.vae_s)
    assert (time.done == 1.0) == (time.vae_s <= time.unet_s) or time.vae_s == pytest.approx(time.unet_s)
    if rows:
        assert time.unet_s >= time.alone_s > 0


@given(st.dictionaries(sizes, rows_of, min_size=1, max_size=2), st.integers(1, 4))
def test_rows_alone_are_the_tables(rows, chunks):
    time = RoundDurations(TABLE)(rows, {}, chunks)
    assert time.unet_s == time.alone_s == pytest.approx(TABLE.round_s(rows, {})[0])
    assert time.share(0.0) in (0.0, 1.0)


def test_what_was_looked_up_is_remembered():
    class Counted:
        calls = 0

        def round_s(self, *round_):
            self.calls += 1
            return TABLE.round_s(*round_)

    table = Counted()
    times = RoundDurations(table)
    times({SQUARE: (4, 0)}, {SQUARE: 1.0}, 1)
    before = table.calls
    assert times({SQUARE: (4, 0)}, {SQUARE: 1.001}, 1) == times({SQUARE: (4, 0)}, {SQUARE: 1.0}, 1)
    assert table.calls == before
    assert times({SQUARE: (4, 0)}, {SQUARE: 1.1}, 1).vae_s > times({SQUARE: (4, 0)}, {SQUARE: 1.0}, 1).vae_s
