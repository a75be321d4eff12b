"""Into how many chunks a decoding is cut, by what running together costs rows and decoding."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import CalibrationError
from headrace.serving.chunk_choice import ChunkTimes, choose_chunks, chunk_figures

COUNTS = (1, 2, 4, 8)
SECONDS = st.floats(1e-4, 10)


def interleaved(rows_s, decoding_s, counts=COUNTS):
    """One thing after the other: a round takes what its rows and a chunk take."""
    return [ChunkTimes(n, rows_s + decoding_s / n, decoding_s / n, rows_s, decoding_s) for n in counts]


def test_overheads_are_those_of_the_sums_over_the_rounds():
    one = ChunkTimes(chunks=4, unet_s=0.11, vae_s=0.05, unet_alone_s=0.1, vae_alone_s=0.16)
    assert one.unet_overhead == pytest.approx(0.1)  # 4 rounds of 110 ms and not 100
    assert one.vae_overhead == pytest.approx((3 * 0.11 + 0.05) / 0.16 - 1)  # the last round is not waited for
    assert one.cost(0.5) == pytest.approx((0.1 + one.vae_overhead) / 2)
    assert one.cost(1.0) == one.unet_overhead
    slow = ChunkTimes(chunks=2, unet_s=0.1, vae_s=0.3, unet_alone_s=0.1, vae_alone_s=0.5)
    assert slow.vae_overhead == pytest.approx(0.6 / 0.5 - 1)  # a chunk that outlasts its rows holds the next one back


@pytest.mark.parametrize(("decoding_s", "chunks"), [(0.02, 1), (0.1, 1), (0.4, 4), (0.8, 8)])
def test_chunks_are_about_as_long_as_the_rows_they_stand_between(decoding_s, chunks):
    assert choose_chunks([interleaved(0.1, decoding_s)], bound=math.inf).chunks == chunks


def test_the_bound_is_the_largest_count_that_keeps_rows_within_it():
    times = [ChunkTimes(n, unet, 0.1 / n, 0.1, 0.1) for n, unet in ((1, 0.15), (2, 0.104), (4, 0.1049), (8, 0.12))]
    choice = choose_chunks([times])
    assert (choice.max_chunks, choice.bounded) == (4, True)
    assert choose_chunks([times], bound=0.3).max_chunks == 8


def test_where_no_count_keeps_the_bound_it_is_the_one_that_costs_the_rows_least():
    choice = choose_chunks([interleaved(0.1, 0.8)])
    assert (choice.max_chunks, choice.bounded, choice.chunks) == (8, False, 8)


def test_sizes_count_alike():
    small, large = interleaved(0.1, 0.05), interleaved(0.1, 1.6)
    assert choose_chunks([small], bound=math.inf).chunks == 1
    assert choose_chunks([large], bound=math.inf).chunks == 8
    assert 1 < choose_chunks([small, large], weight=0.8, bound=math.inf).chunks <= 8


@given(
    times=st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=4),
    alone=st.tuples(SECONDS, SECONDS),
    weight=st.floats(0, 1),
    bound=st.floats(0, 1),
)
def test_no_allowed_count_costs_less(times, alone, weight, bound):
    measured = [ChunkTimes(2**i, *pair, *alone) for i, pair in enumerate(times)]
    choice = choose_chunks([measured], weight, bound)
    by_count = {one.chunks: one for one in measured}
    allowed = [one for one in measured if one.chunks <= choice.max_chunks]
    assert choice.chunks <= choice.max_chunks
    assert all(by_count[choice.chunks].cost(weight) <= one.cost(weight) for one in allowed)
    assert choice.bounded == any(one.unet_overhead <= bound for one in measured)
    if choice.bounded:
        assert by_count[choice.max_chunks].unet_overhead <= bound
        assert all(one.unet_overhead > bound for one in measured if one.chunks > choice.max_chunks)


def test_what_cannot_be_chosen_from():
    for sizes in ([], [[]], [interleaved(0.1, 0.1), interleaved(0.1, 0.1, (1, 2))]):
        with pytest.raises(CalibrationError, match="chunk counts of the sizes"):
            choose_chunks(sizes)
    for weight in (-0.1, 1.1, math.nan):
        with pytest.raises(CalibrationError, match="weight is"):
            choose_chunks([interleaved(0.1, 0.1)], weight)
    for bound in (-1, math.nan):
        with pytest.raises(CalibrationError, match="bound is"):
            choose_chunks([interleaved(0.1, 0.1)], 0.5, bound)


def test_the_weight_moves_the_choice():
    times = [interleaved(0.1, 0.2)]
    chosen = [choose_chunks(times, weight, math.inf).chunks for weight in (0.0, 0.5, 1.0)]
    assert chosen == [1, 2, 8]
    figures = chunk_figures(times, choose_chunks(times, 0.25), 0.25)
    assert figures["chunk_cost_weight"] == 0.25
    assert figures["unet_overhead_4_chunks"] == pytest.approx(0.5)
    assert figures["vae_overhead_4_chunks"] == pytest.approx((3 * 0.15 + 0.05) / 0.2 - 1)
    assert figures["unet_bound_kept"] == 0
