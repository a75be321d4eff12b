"""Latency tables: what they refuse, interpolation, sizes and chunk counts between the measured ones, mixed rounds."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import SQUARE, contended, entry, grid, table

from headrace.errors import ArtefactError
from headrace.serving.latency_table import LatencyTable

LARGE = (1024, 1024)
MIXED = contended(sizes=(SQUARE, LARGE))


def plane():
    """Linear in rows, decodings and skipped rows wherever there are rows: interpolation is exact."""
    return table(entry(SQUARE, grid(lambda u, v, s: 2.0 * u, lambda u, v, s: 3.0 * v)))


def test_a_table_survives_its_file(tmp_path):
    MIXED.save(tmp_path / "table.json")
    loaded = LatencyTable.load(tmp_path / "table.json")
    assert loaded == MIXED
    assert loaded.unet_s(SQUARE, 3, 1) == MIXED.unet_s(SQUARE, 3, 1)


@given(u=st.floats(0, 40), v=st.floats(0, 20))
def test_linear_latencies_are_met_everywhere_also_beyond_the_grid(u, v):
    assert plane().unet_s(SQUARE, u, v) == pytest.approx(2 * u, abs=1e-9)
    assert plane().vae_s(SQUARE, u, v) == pytest.approx(3 * v, abs=1e-9)


@given(u=st.floats(0, 30), v=st.floats(0, 12), share=st.floats(0, 1), chunks=st.integers(1, 10))
def test_one_round_and_arrays_of_rounds_agree(u, v, share, chunks):
    surface = MIXED._surface(SQUARE, chunks)
    assert surface.one(u, v, share * u) == pytest.approx([float(x) for x in surface.many(u, v, share * u)])


def test_grid_points_are_met():
    measured = contended()
    for grid_ in measured.sizes[0].grids:
        u, v, share = np.meshgrid(grid_.rows, grid_.decodings, grid_.skip_shares, indexing="ij")
        np.testing.assert_allclose(measured.unet_s(SQUARE, u, v, share * u, grid_.chunks), grid_.unet_s)
        np.testing.assert_allclose(measured.vae_s(SQUARE, u, v, share * u, grid_.chunks), grid_.vae_s)


def test_between_chunk_counts_times_lie_between():
    times = [float(MIXED.vae_s(SQUARE, 4, 1, chunks=chunks)) for chunks in range(1, 12)]
    assert times == sorted(times, reverse=True)
    assert times[2] == pytest.approx(MIXED.sizes[0].grids[0].vae_s[3][1][0] / 3)  # exactly 1 / chunks in this table
    assert times[8:] == [times[7]] * 3  # nothing was measured beyond 8


def test_a_fall_at_the_end_of_the_grid_is_not_followed():
    falling = table(entry(SQUARE, grid(lambda u, v, s: 1.0 + 1 / u, lambda u, v, s: 1.0 + 1 / u if u else 2.0)))
    for rows in (20, 100, 10_000):
        assert float(falling.unet_s(SQUARE, rows, 1)) == falling.round_s({SQUARE: (rows, 0)}, {SQUARE: 1})[0] == 1.0625
        assert falling.round_s({SQUARE: (rows, 0)}, {SQUARE: 100})[1] > 1


def test_a_size_that_was_not_measured_costs_by_its_area():
    assert float(MIXED.unet_s((1024, 512), 4)) == pytest.approx(2 * float(MIXED.unet_s(SQUARE, 4)))
    assert MIXED.saturation((520, 512)) == 8


def test_decodings_of_another_size_weigh_what_they_cost():
    assert MIXED.load_of(SQUARE, {SQUARE: 1, LARGE: 2}) == pytest.approx(1 + 2 * 4)
    assert MIXED.load_of(LARGE, {SQUARE: 2}) == pytest.approx(0.5)
    assert MIXED.load_of(SQUARE, {}) == 0


def test_a_round_of_one_size_is_the_table():
    unet, vae = MIXED.round_s({SQUARE: (8, 2)}, {SQUARE: 1}, chunks=4)
    assert unet == pytest.approx(float(MIXED.unet_s(SQUARE, 8, 1, 2, 4)))
    assert vae == pytest.approx(float(MIXED.vae_s(SQUARE, 8, 1, 2, 4)))
    assert MIXED.round_s({}, {SQUARE: 3}) == pytest.approx((0.0, float(MIXED.vae_s(SQUARE, 0, 3))))
    assert MIXED.round_s({LARGE: (2, 0)}, {}) == pytest.approx((float(MIXED.unet_s(LARGE, 2)), 0.0))


@given(small=st.integers(0, 16), large=st.integers(0, 16), v=st.integers(0, 8), w=st.integers(0, 3))
def test_a_mixed_round_takes_its_calls_one_after_another(small, large, v, w):
    groups = {SQUARE: (small, 0), LARGE: (large, 0)}
    unet, vae = MIXED.round_s(groups, {SQUARE: v, LARGE: w} if v or w else {}, chunks=2)
    alone = float(MIXED.unet_s(SQUARE, small)) + float(MIXED.unet_s(LARGE, large))
    assert unet >= alone - 1e-12
    assert (vae > 0) == (v + w > 0)
    if v + w == 0:
        assert unet == pytest.approx(alone)


def test_a_chunk_contends_only_while_it_runs():
    # 100 ms of decoding beside calls of 15 ms and 60 ms that it slows by half
    unet, vae = MIXED.round_s({SQUARE: (1, 0), LARGE: (1, 0)}, {SQUARE: 1})
    first = 0.015 * 1.5
    assert unet > first + 0.06
    assert unet < (0.015 + 0.06) * 1.5 + 1e-9
    assert vae > unet  # still running when the rows are done
    assert MIXED.round_s({SQUARE: (1, 0)}, {SQUARE: 0.25})[0] < first  # what is left of a chunk weighs as much


def grid_values(**change):
    values = grid(lambda u, v, s: 1.0, lambda u, v, s: 1.0, rows=(0, 1), decodings=(0, 1), shares=(0.0,)).model_dump()
    return values | change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows": [1, 2]}, "rows do not increase from 0"),
        ({"decodings": [0, 0]}, "decodings do not increase"),
        ({"skip_shares": [0.0, 0.5]}, "unet_s is not rows x decodings"),
        ({"unet_s": [[[0.0], [0.0]]]}, "unet_s is not rows x decodings"),
        ({"unet_s": [[[1.0], [0.0]], [[1.0], [1.0]]]}, "not 0 where there are no rows"),
        ({"unet_s": [[[0.0], [0.0]], [[0.0], [1.0]]]}, "0 where there are rows"),
        ({"vae_s": [[[0.5], [1.0]], [[0.0], [1.0]]]}, "not 0 where there are no decodings"),
        ({"vae_s": [[[0.0], [0.0]], [[0.0], [1.0]]]}, "0 where there are decodings"),
        ({"vae_s": [[[0.0], [-1.0]], [[0.0], [1.0]]]}, "greater than or equal to 0"),
        ({"chunks": 0}, "greater than or equal to 1"),
    ],
)
def test_grids_that_cannot_be_are_refused(tmp_path, change, words):
    values = json.loads(contended().model_dump_json())
    values["sizes"][0]["grids"] = [grid_values(**change)]
    (tmp_path / "table.json").write_text(json.dumps(values))
    with pytest.raises(ArtefactError, match=words):
        LatencyTable.load(tmp_path / "table.json")


def test_empty_and_contradictory_tables_are_refused(tmp_path):
    for change, words in (
        ({"sizes": []}, "sizes: "),
        ({"sizes": [*contended().model_dump()["sizes"]] * 2}, "twice"),
        ({"chunks": 9}, "above max_chunks"),
        ({"lane": "magic"}, "lane: "),
    ):
        (tmp_path / "table.json").write_text(json.dumps(contended().model_dump() | change))
        with pytest.raises(ArtefactError, match=words):
            LatencyTable.load(tmp_path / "table.json")
