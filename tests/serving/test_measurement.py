"""What a latency table is measured at, and how it is made of made-up times."""

from __future__ import annotations

import warnings
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import CalibrationError, HeadraceWarning
from headrace.serving.latency_table import LatencyTable
from headrace.serving.measurement import (
    Design,
    Load,
    check_idle,
    chunk_times,
    deciding_loads,
    doubling,
    interpolation_errors,
    measure,
    medians,
    saturation,
    size_latencies,
    spread,
)

SMALL, LARGE = (64, 64), (96, 64)
DESIGN = Design((SMALL, LARGE), (0, 1, 2, 4, 8), (0, 1, 4), (1, 2))


def probe(load: Load) -> tuple[float, float]:
    """Linear in rows, skips and decodings."""
    area = load.size[0] * load.size[1] / 4096
    network = 2 * load.rows - load.skipped
    chunk = 0.03 * load.decodings / load.chunks
    unet = area * (0.01 * network + (0.1 * chunk if load.rows else 0))
    return unet, area * (chunk + (0.001 * network if load.decodings else 0)) if load.decodings else 0.0


def table_of(design, times) -> LatencyTable:
    sizes = tuple(size_latencies(design, size, times) for size in design.sizes)
    return LatencyTable(
        model="m", weights="w", machine="here", device="cpu", dtype="float32", lane="interleaved", chunks=1,
        max_chunks=1, error=0.0, max_error=0.0, sizes=sizes,
    )  # fmt: skip


def measured(design, probe):
    return medians(measure(design.loads, probe, design.repeats, design.seed))


def test_every_load_is_measured_in_every_repeat_in_another_order():
    seen, told = [], []
    measure(DESIGN.loads, lambda load: seen.append(load) or probe(load), 3, progress=told.append)
    rounds = [seen[start : start + len(DESIGN.loads)] for start in range(0, len(seen), len(DESIGN.loads))]
    assert len(rounds) == 3
    assert sum(told) == len(seen)
    assert all(set(one) == set(DESIGN.loads) for one in rounds)
    assert rounds[0] != rounds[1] != list(DESIGN.loads)


def test_a_hiccup_does_not_count():
    calls: dict[Load, int] = {}

    def hiccups(load):
        calls[load] = calls.get(load, 0) + 1
        unet, vae = probe(load)
        return (100 * unet, 100 * vae) if calls[load] == 2 else (unet, vae)

    assert measured(DESIGN, hiccups) == {load: probe(load) for load in DESIGN.loads}


def test_the_spread_is_how_far_medians_are_above_the_shortest():
    quiet, busy = [(1.0, 0.0), (9.0, 0.0), (1.1, 0.0)], [(0.0, 4.0), (0.0, 6.0), (0.0, 6.0)]
    assert spread({"a": quiet}) == pytest.approx(0.1)
    assert spread({"a": busy}) == pytest.approx(0.5)
    assert spread({"a": quiet, "b": busy, "c": busy}) == pytest.approx(0.5)
    assert spread({"a": [(1.0, 3.0)]}) == 0


def test_a_busy_machine_is_warned_of():
    with pytest.warns(HeadraceWarning, match="took 50% longer .* busy"):
        assert check_idle({"a": [(1.0, 0.0), (1.5, 0.0), (1.6, 0.0)]}) == pytest.approx(0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_idle({"a": [(1.0, 0.0), (1.05, 0.0), (3.0, 0.0)]}) == pytest.approx(0.05)


def test_no_load_is_measured_twice_for_axes_that_say_nothing():
    loads = DESIGN.loads
    assert len(set(loads)) == len(loads)
    assert all(load.chunks == 1 for load in loads if not load.decodings)
    assert all(load.skipped == 0 for load in loads if not load.rows)
    assert not [load for load in loads if not load.rows and not load.decodings]
    assert not [load for load in Design((SMALL,), (0, 1, 2), (0, 1), (1,), guided=False).loads if load.skipped]


def test_the_grid_holds_what_was_measured():
    times = measured(DESIGN, probe)
    table = table_of(DESIGN, times)
    for load in DESIGN.grid:
        at = (load.size, load.rows, load.decodings, load.skipped, load.chunks)
        assert (table.unet_s(*at), table.vae_s(*at)) == pytest.approx(probe(load))


def test_chunks_are_decided_by_rounds_that_are_full():
    times = dict(measured(DESIGN, probe))
    entries = table_of(DESIGN, times).sizes
    assert set(deciding_loads(DESIGN, entries)) <= set(DESIGN.grid)
    for entry, [whole, half] in zip(entries, chunk_times(DESIGN, entries, times), strict=True):
        rows = entry.saturation
        assert (whole.chunks, half.chunks) == (1, 2)
        assert (half.unet_s, half.vae_s) == pytest.approx(probe(Load(entry.size, rows, 1, 0, 2)))
        assert half.unet_alone_s == pytest.approx(probe(Load(entry.size, rows))[0])
        assert half.vae_alone_s == pytest.approx(probe(Load(entry.size, 0, 1))[1])


def test_the_error_is_what_interpolation_misses_between_grid_points():
    assert DESIGN.between
    assert len(DESIGN.between) == DESIGN.held_out * 2
    assert not set(DESIGN.between) & set(DESIGN.grid)
    assert DESIGN.between == Design((SMALL, LARGE), (0, 1, 2, 4, 8), (0, 1, 4), (1, 2)).between
    times = dict(measured(DESIGN, probe))
    exact = interpolation_errors(table_of(DESIGN, times), times, DESIGN.between)
    assert exact == pytest.approx([0] * len(exact), abs=1e-9)
    off = {load: (1.25 * unet, vae) if load in DESIGN.between else (unet, vae) for load, (unet, vae) in times.items()}
    errors = interpolation_errors(table_of(DESIGN, off), off, DESIGN.between)
    assert max(errors) == pytest.approx(0.2)
    assert errors.count(pytest.approx(0.2)) == len(DESIGN.between)


def test_a_grid_that_leaves_nothing_out_holds_nothing_out():
    assert Design((SMALL, LARGE), (0, 1), (0, 1), (1,)).between == ()
    few = Design((SMALL, LARGE), (0, 1, 2), (0, 1), (1,)).between
    assert set(few) == {Load(size, 2, v, 1) for size in (SMALL, LARGE) for v in (0, 1)}


def test_a_decoder_of_next_to_no_time_has_no_error():
    def quick(load):
        return probe(load)[0], 1e-7 * (1 + load.rows**2) if load.decodings else 0.0

    times = measured(DESIGN, quick)
    errors = interpolation_errors(table_of(DESIGN, times), times, DESIGN.between)
    assert len(errors) == len(DESIGN.between)
    assert max(errors) < 0.01


def test_saturation_is_where_larger_batches_gain_little():
    assert saturation({1: 1.0, 2: 1.2, 4: 1.6, 8: 3.0, 16: 6.0}) == 4
    assert saturation({1: 1.0, 2: 2.0, 4: 4.0}) == 1  # batching brings nothing
    assert saturation({1: 1.0, 2: 2.0, 4: 2.0}) == 4  # a plateau before a gain is not the end
    assert saturation({1: 1.0, 2: 1.8}, gain=0.2) == 1


@given(st.dictionaries(st.integers(1, 64), st.floats(1e-3, 10), min_size=1))
def test_no_larger_batch_gains_more(seconds):
    full = saturation(seconds)
    rates = {batch: batch / time for batch, time in seconds.items()}
    assert all(rates[batch] <= 1.1 * rates[full] for batch in rates if batch > full)


@given(st.integers(1, 1000))
def test_counts_double_up_to_the_last(most):
    counts = doubling(most)
    assert (counts[0], counts[-1]) == (1, most)
    assert all(before < after <= 2 * before for before, after in pairwise(counts))


def test_nothing_is_measured_no_times():
    with pytest.raises(CalibrationError, match="repeats is 0"):
        measure(DESIGN.loads, probe, 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sizes": ()}, r"sizes are \[\]"),
        ({"sizes": (SMALL, SMALL)}, "Give each size once"),
        ({"rows": (1, 2)}, r"rows are \[1, 2\]"),
        ({"decodings": (0, 2)}, "increase from 0 and 1"),
        ({"chunks": (2, 4)}, "chunks are"),
        ({"rows": (0, 1, 4, 2)}, "rows are"),
        ({"weight": -0.5}, "weight is -0.5"),
    ],
)
def test_designs_that_measure_nothing_sensible(change, words):
    given = {"sizes": (SMALL,), "rows": (0, 1), "decodings": (0, 1), "chunks": (1,)} | change
    with pytest.raises(CalibrationError, match=words):
        Design(**given)
