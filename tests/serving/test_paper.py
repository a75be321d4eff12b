"""The table that stands for the paper's machine has what the paper reports."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from table_one import TABLE_I

from headrace.serving.arrivals import Mix
from headrace.serving.load_study import House, Workload, run
from headrace.serving.paper import Contention, paper_table, paper_window, shipped_table

LARGE, MEDIUM, SMALL = (1024, 1024), (768, 768), (512, 512)


@pytest.fixture(scope="module")
def table():
    return shipped_table()


def test_the_file_is_what_the_function_makes(table):
    assert table == paper_table()


def test_other_parameters_make_another_table(table):
    mild = paper_table(Contention(spike=0.1))
    assert mild.unet_s(LARGE, 8, 1) < table.unet_s(LARGE, 8, 1)
    assert mild.unet_s(LARGE, 8, 0) == table.unet_s(LARGE, 8, 0)


def stages(table, counts):
    """UNet latency of all stages, and mean time until a decoding is done; as many rows as decodings in each."""
    elapsed = total = 0.0
    for count in counts:
        total += count * (elapsed + float(table.vae_s(LARGE, count, count, 0, table.chunks)))
        elapsed += float(table.unet_s(LARGE, count, count, 0, table.chunks))
    return 1000 * elapsed, 1000 * total / sum(counts)


@pytest.mark.parametrize("counts", TABLE_I)
def test_table_i(table, counts):
    unet, vae = stages(table, counts)
    assert unet == pytest.approx(TABLE_I[counts][0], rel=0.035)
    assert vae == pytest.approx(TABLE_I[counts][1], rel=0.2)


def test_the_rows_have_a_plateau_and_then_a_spike(table):
    coarsest, *plateau, finest = (stages(table, counts)[0] for counts in TABLE_I)
    assert max(plateau) < 1.06 * coarsest
    assert finest > 1.15 * coarsest


def test_rows_gain_from_batches_less_so_the_larger_the_picture(table):
    gains = [float(8 * table.unet_s(size, 1) / table.unet_s(size, 8)) for size in (SMALL, MEDIUM, LARGE)]
    assert gains == sorted(gains, reverse=True)
    assert 1.2 < gains[-1] < gains[0] < 3.5
    each = table.unet_s(SMALL, np.arange(1, 17)) / np.arange(1, 17)
    assert (np.diff(each) < 0).all()
    assert (np.diff(each, 2) > 0).all()
    assert [entry.saturation for entry in table.sizes] == sorted((e.saturation for e in table.sizes), reverse=True)


def test_decodings_gain_nothing_from_batches(table):
    assert table.vae_s(LARGE, 0, np.array([1, 4, 16])) == pytest.approx([0.088, 0.352, 1.408])


@pytest.mark.parametrize("size", [SMALL, MEDIUM, LARGE])
def test_rows_are_most_of_a_request(table, size):
    rows = 35 * table.unet_s(size, 1)
    assert rows / (rows + table.vae_s(size, 0, 1)) > 0.9


def test_more_chunks_cost_the_rows_less_and_four_at_most_5_percent(table):
    beside = [float(table.unet_s(MEDIUM, 8, 1, 0, chunks) / table.unet_s(MEDIUM, 8)) - 1 for chunks in (1, 2, 4, 8)]
    assert all(a > 2 * b for a, b in itertools.pairwise(beside))
    assert beside[2] < 0.05


def test_rows_without_guidance_leave_room(table):
    assert table.unet_s(LARGE, 8, 1, 8, 4) < 0.55 * table.unet_s(LARGE, 8, 1, 0, 4)
    slowed, relieved = (float(table.unet_s(LARGE, 8, 1, s) / table.unet_s(LARGE, 8, 0, s)) for s in (0, 8))
    assert relieved - 1 < 0.6 * (slowed - 1)


def test_whole_decodings_cost_continuous_batching_45_percent_of_its_rows(table):
    """Section IV-B3: InstGenIE loses 45% of its UNet throughput under load."""
    house = House(table, None)
    found = run(house, "continuous", Workload.drawn("poisson", 600, 10.0, Mix()))
    assert found.effort.unet_kept == pytest.approx(0.55, abs=0.02)


def test_skips_cost_similarity_early_ones_most():
    window = paper_window()
    assert window.expected(0.0, 0.1) < 0.8
    assert window.expected(0.75, 0.05) > 0.995
    starts = [window.expected(start, 0.2) for start in (0.0, 0.2, 0.4, 0.6, 0.8)]
    assert starts == sorted(starts)
    shares = [window.expected(0.5, share) for share in (0.1, 0.2, 0.3, 0.4)]
    assert shares == sorted(shares, reverse=True)
