"""Measurements on a tiny model: operations are exact, plain sampling is its own measure, and nothing stays attached."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.evaluation.extractors.colour_gradients import ColourGradients
from headrace.models.macs import block_macs
from headrace.models.pipelines.loading import load
from headrace.request import Request
from headrace.tuning.judges import Similarity
from headrace.tuning.measure import Measure, Subject
from headrace.tuning.settings import Settings
from headrace.tuning.tune import space_of, start_of

BASELINE = Settings(solver="ddim", steps=4)


@pytest.fixture(scope="module")
def subject(tiny_model):
    pipeline = load(tiny_model("sd1"))
    requests = [
        Request(prompt=text, steps=4, solver="ddim", guidance_scale=4.0, seed=n) for n, text in enumerate("abcd")
    ]
    extractor = ColourGradients()
    return Subject(pipeline, BASELINE, requests, Similarity(extractor), 2, extractor)


def test_operations_are_those_of_the_rows_that_are_evaluated(subject):
    measure = Measure(subject)
    row, _ = block_macs(subject.pipeline, subject.requests[0], [])
    plain = measure.macs(BASELINE)
    assert plain - measure.macs(Settings(solver="ddim", steps=2)) == 2 * 2 * row
    assert plain - measure.macs(Settings(solver="ddim", steps=4, guidance_share=0.5)) == 2 * row
    assert plain > measure.macs(Settings(solver="ddim", steps=4, deep_interval=2)) > plain - 4 * row
    assert subject.pipeline.row_cache is None


def test_plain_sampling_costs_one_and_loses_nothing_and_others_are_timed_against_it(subject):
    made = []
    measure = Measure(subject, made.append)
    plain = measure.search(BASELINE, 4)
    assert plain.point == (1.0, 1.0)
    assert plain.figures["psnr"] == 100.0
    assert plain.figures["against_plain"] == 0.0
    fewer = measure.search(Settings(solver="ddim", steps=1), 4, final=True)
    assert fewer.cost.value < 1
    assert fewer.quality.value < 1
    assert fewer.figures["against_plain"] == pytest.approx(fewer.quality.value - 1)
    held_out = measure.confirm(Settings(solver="ddim", steps=1), range(2, 4))
    assert held_out.figures["psnr"] < 100
    assert sum(made) == 4 + 4 + 2


def test_equal_settings_give_equal_qualities(subject):
    settings = Settings(solver="ddim", steps=4, low_share=0.5, cross_share=0.5, block_saving=0.2)
    first, again = (Measure(subject).search(settings, 2) for _ in range(2))
    assert first.quality == again.quality
    assert np.isclose(first.figures["psnr"], again.figures["psnr"])


def test_the_space_has_what_the_model_has(subject, tiny_pipeline):
    space = space_of(subject, Measure(subject).plan(BASELINE), ["unipc"])
    assert set(space.values) == set(Settings.model_fields)
    start = start_of(space)
    assert start[1].label == "ddim 4, guided 0.75, s 0.5 at 0.5, k 2, m 0.75"
    assert BASELINE.identity not in {one.identity for one in start}
    unguided = [one.model_copy(update={"guidance_scale": 1.0}) for one in subject.requests]
    plain = Subject(subject.pipeline, BASELINE, unguided, subject.judge, 2, subject.extractor)
    assert "guidance_share" not in space_of(plain, Measure(plain).plan(BASELINE)).values
