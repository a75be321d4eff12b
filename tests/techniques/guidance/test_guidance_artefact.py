"""The curve of a guidance calibration as a file, and what thresholds make of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import ArtefactError
from headrace.serving.skip_window import SkipWindow
from headrace.techniques.guidance.artefact import GuidanceArtefact
from headrace.techniques.guidance.calibrate import Grid, Similarity

IDENTITY = {
    "model": "boat", "weights": "0123", "solver": "DDIMScheduler abc", "steps": 10, "solver_name": "ddim",
    "guidance_scale": 4.0, "extractor": "dinov2", "extractor_digest": "4567", "centred": False,
}  # fmt: skip
CURVE = [[0.80, 0.70, 0.40], [0.96, 0.90, 0.80], [0.94, 0.93, 0.92], [0.995, 0.97, 0.96]]


def make(curve=CURVE) -> GuidanceArtefact:
    mean = np.array(curve, dtype=float)
    found = Similarity(Grid(10, (0, 3, 6, 9), (1, 2, 10)), mean, 0.1 * mean, 8)
    return GuidanceArtefact.build(found, **IDENTITY)


def test_a_file_holds_the_curve_and_the_bounds(tmp_path):
    made = make()
    made.save(tmp_path / "window.json")
    again = GuidanceArtefact.load(tmp_path / "window.json")
    assert again == made
    assert (again.starts, again.shares) == ((0, 0.3, 0.6, 0.9), (0.1, 0.2, 1.0))
    assert again.figures == {
        "one_from_0.99": 0.9, "saving_0.99": pytest.approx(0.05),
        "one_from_0.95": 0.9, "all_from_0.95": 0.9, "saving_0.95": pytest.approx(0.05),
        "one_from_0.9": 0.3, "all_from_0.9": 0.6, "saving_0.9": pytest.approx(0.2),
    }  # fmt: skip


def test_no_row_may_be_skipped_where_none_is_similar_enough():
    assert make([[0.5] * 3] * 4).bounds(0.9) == {}
    assert make([[1.0] * 3] * 4).bounds(0.9) == {"one_from": 0, "all_from": 0, "saving": 0.5}


@given(
    curve=st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=4, max_size=4),
    low=st.floats(0, 1),
    high=st.floats(0, 1),
)
def test_a_higher_threshold_opens_no_wider_window(curve, low, high):
    low, high = sorted((low, high))
    made = make(curve)
    wide, narrow = made.bounds(low), made.bounds(high)
    assert set(narrow) <= set(wide)
    for name in ("one_from", "all_from"):
        assert narrow.get(name, 1.0) >= wide.get(name, 1.0)
    assert narrow.get("saving", 0) <= wide.get("saving", 0)


def test_the_scheduler_takes_the_curve_as_it_is():
    made = make()
    window = SkipWindow(made.starts, made.shares, made.similarity)
    assert window.expected(0.3, 0.1) == 0.96
    assert window.expected(0.9, 0.1) == 0.995


def test_a_window_is_one_models_own():
    made = make()
    made.check("boat", "0123")
    with pytest.raises(ArtefactError, match="measured on 'boat', and this is 'ship'"):
        made.check("ship", "4567")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"starts": [0, 0.3, 0.2, 0.9]}, "starts are .* not increasing"),
        ({"shares": [0.0, 0.2, 1.0]}, r"shares\.0: Input should be greater than 0"),
        ({"shares": [0.1, 0.2]}, "similarity does not have 4 lines of 2"),
        ({"similarity": CURVE[:3]}, "similarity does not have 4 lines of 3"),
        ({"deviation": [[0.1]] * 4}, "deviation does not have 4 lines of 3"),
        ({"similarity": [[1.5] * 3] * 4}, r"similarity\.0\.0: "),
        ({"pictures": 0}, "pictures: "),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, change, words):
    file = tmp_path / "window.json"
    file.write_text(json.dumps(make().model_dump() | change))
    with pytest.raises(ArtefactError, match=words):
        GuidanceArtefact.load(file)
