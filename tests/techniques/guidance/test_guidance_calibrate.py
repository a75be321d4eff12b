"""Pictures with rows unguided, compared with those that are guided throughout."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.engine import Engine
from headrace.errors import CalibrationError
from headrace.request import Request
from headrace.techniques.guidance.calibrate import Grid, check_guided, measure_similarity
from headrace.techniques.guidance.schedule import skip

STEPS = 6


def flat(pixels):
    return pixels.reshape(len(pixels), -1).astype(np.float64)


def requests_of(count: int) -> list[Request]:
    told = {"steps": STEPS, "solver": "euler-a", "guidance_scale": 5.0}
    return [Request(prompt="red apple" if seed % 2 else "boat", seed=seed, **told) for seed in range(count)]


@pytest.fixture
def engine(tiny_pipeline):
    return Engine(tiny_pipeline("sd1"))


@given(rows=st.integers(2, 60), starts=st.integers(2, 20))
def test_a_grid_goes_from_one_skipped_row_to_all_of_them(rows, starts):
    grid = Grid.of(rows, starts)
    assert (grid.firsts[0], grid.firsts[-1]) == (0, rows - 1)
    assert (grid.counts[0], grid.counts[-1]) == (1, rows)
    assert len(grid.firsts) <= starts
    alone = {(first, min(count, rows - first)) for first in grid.firsts for count in grid.counts}
    alone |= {(first, rows - first) for first in grid.firsts}
    assert grid.network_rows <= 2 * rows + sum(2 * rows - count for _, count in alone)
    for first, count in alone:
        assert grid.skipped(first, count).sum() == count


def test_similarity_is_that_of_the_pictures_an_engine_makes(engine):
    requests, grid = requests_of(3), Grid(STEPS, (0, 3, 5), (1, 2, 6))
    plan = engine.plan(requests[0])
    told: list[int] = []
    found = measure_similarity(engine.pipeline, plan, requests, flat, grid, batch=2, progress=told.append)
    assert sum(told) == grid.network_rows * len(requests)
    assert (found.mean.shape, found.pictures) == ((3, 3), 3)

    def pictures(first, count):
        asked = skip(plan, np.flatnonzero(grid.skipped(first, count)).tolist())
        for request in requests:
            engine.submit(request, asked)
        while engine.busy:
            engine.step()
        return flat(np.stack([result.pixels for result in sorted(engine.collect(), key=lambda one: one.number)]))

    guided = pictures(0, 0)
    for place, first in enumerate(grid.firsts):
        for index, count in enumerate(grid.counts):
            other = pictures(first, count)
            lengths = np.linalg.norm(other, axis=1) * np.linalg.norm(guided, axis=1)
            cosines = (other * guided).sum(axis=1) / lengths
            assert found.mean[place, index] == pytest.approx(cosines.mean(), abs=1e-4)
            assert found.deviation[place, index] == pytest.approx(cosines.std(ddof=1), abs=1e-4)
    assert found.mean[0, 2] < found.mean[2, 0] < 1  # all rows skipped against the last one
    assert found.mean[2].tolist() == [found.mean[2, 0]] * 3  # one row is left, so more cannot be skipped


def test_rows_that_variants_share_change_nothing(engine):
    requests = requests_of(2)
    plan = engine.plan(requests[0])
    together = measure_similarity(engine.pipeline, plan, requests, flat, Grid(STEPS, (1, 4), (1, 3)))
    for place, first in enumerate((1, 4)):
        for index, count in enumerate((1, 3)):
            alone = measure_similarity(engine.pipeline, plan, requests, flat, Grid(STEPS, (first,), (count,)))
            assert alone.mean[0, 0] == together.mean[place, index]


def test_what_features_have_in_common_is_taken_away(engine):
    requests = requests_of(2)
    plan, grid = engine.plan(requests[0]), Grid(STEPS, (0,), (STEPS,))

    def alike(pixels):
        return flat(pixels) + 10_000.0

    raw = measure_similarity(engine.pipeline, plan, requests, alike, grid)
    centred = measure_similarity(engine.pipeline, plan, requests, alike, grid, centred=True)
    assert raw.mean[0, 0] > 0.999
    assert centred.mean[0, 0] < raw.mean[0, 0] - 0.001
    plain = measure_similarity(engine.pipeline, plan, requests, flat, grid, centred=True)
    assert centred.mean[0, 0] == pytest.approx(plain.mean[0, 0])


def test_pictures_that_stay_the_same_are_wholly_similar(engine):
    requests = requests_of(2)
    plan, grid = engine.plan(requests[0]), Grid(STEPS, (0, 2), (1, 2))

    def blind(pixels):
        return np.zeros((len(pixels), 3))

    found = measure_similarity(engine.pipeline, plan, requests, blind, grid, centred=True)
    assert (found.mean == 1).all()
    assert not found.deviation.any()


def test_what_has_no_guidance_to_skip(engine, tiny_pipeline):
    requests = requests_of(1)
    pipeline, plan = engine.pipeline, engine.plan(requests[0])
    part = plan.with_columns(guidance=[5, 5, 5, 1, 1, 1])
    cases = [
        (tiny_pipeline("ddim"), plan, "no unconditional branch"),
        (pipeline, plan.with_columns(guidance=1.0), "scale of 1"),
        (pipeline, part, "off in some rows"),
    ]
    for model, wrong, words in cases:
        with pytest.raises(CalibrationError, match=words):
            check_guided(model, wrong)
    grid = Grid.of(STEPS, 2)
    for asked, centred in (([], False), (requests, True)):
        with pytest.raises(CalibrationError, match=f"{len(asked)} pictures are too few"):
            measure_similarity(pipeline, plan, asked, flat, grid, centred)
    for rows, starts in ((1, 5), (5, 1)):
        with pytest.raises(CalibrationError, match="no curve"):
            Grid.of(rows, starts)
