"""acceleration.json: what it holds, what it refuses, and that its schedule is carried out."""

from __future__ import annotations

import json
from importlib.metadata import entry_points

import numpy as np
import pytest

from headrace.engine import Engine
from headrace.engine.acceleration import GROUP
from headrace.errors import ArtefactError
from headrace.models.blocks import find_blocks
from headrace.models.pipelines.fingerprint import pipeline_fingerprint
from headrace.models.pipelines.loading import load
from headrace.request import Request
from headrace.techniques.block_caching.artefact import BlockCacheArtefact, solver_identity
from headrace.tuning.acceleration import (
    AccelerationArtefact,
    CacheSchedule,
    Expectation,
    FrontPoint,
    TunedAcceleration,
    load_block_cache,
    load_tuned,
)
from headrace.tuning.interval import Interval
from headrace.tuning.settings import Settings

STEPS = 4
ASKED = Request(prompt="red apple", steps=STEPS, solver="ddim", guidance_scale=4.0)


@pytest.fixture(scope="module")
def pipeline(tiny_model):
    return load(tiny_model("sd1"))


@pytest.fixture(scope="module")
def artefact(pipeline):
    plan = Engine(pipeline).plan(ASKED)
    settings = Settings(solver="ddim", steps=STEPS, guidance_share=0.5, block_saving=0.1)
    expected = Expectation(pictures=8, speedup=Interval(value=2.0, low=1.9, high=2.1), quality=Interval.exact(0.9))
    blocks = find_blocks(pipeline.network, "transformer")
    return AccelerationArtefact(
        model="sd1", weights=pipeline_fingerprint(pipeline), solver=solver_identity(plan), steps=STEPS,
        settings=settings, baseline=Settings(solver="ddim"), guidance_scale=4.0, metric="similarity",
        schedule=CacheSchedule(
            blocks=blocks, timesteps=tuple(plan.timestep.tolist()),
            compute=tuple(("#" if row % 2 == 0 else ".") * len(blocks) for row in range(STEPS)),
        ),
        wish="2 times as fast", plain_quality=Interval.exact(1.0), expected=expected, confirmed=expected,
        front=(FrontPoint(settings=settings, expected=expected, macs_share=0.4),), machine={"cores": 2},
    )  # fmt: skip


def test_a_file_holds_all_that_its_pictures_need(pipeline, artefact, tmp_path):
    artefact.save(tmp_path / "acceleration.json")
    loaded = AccelerationArtefact.load(tmp_path / "acceleration.json")
    assert loaded == artefact
    assert loaded.identity == artefact.identity
    decide = TunedAcceleration(loaded).attach(pipeline)
    try:
        [found] = Engine(pipeline, decide=decide).generate([ASKED])
        with pytest.raises(
            ArtefactError, match=r"tuned with ddim, and the request's solver is DPMSolver.*Ask for ddim"
        ):
            Engine(pipeline, decide=decide).plan(ASKED.model_copy(update={"solver": "dpm++2m"}))
    finally:
        pipeline.row_cache.remove()
        pipeline.row_cache = None
    assert found.plan.guidance.tolist() == [4.0, 4.0, 1.0, 1.0]
    assert np.array_equal(found.plan.compute, artefact.schedule.schedule.compute)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "block cache schedule"}, "block cache schedule"),
        ({"schedule": None}, "do not fit"),
        ({"settings": {"steps": 0}}, "settings.steps"),
        ({"settings": {"speed": 2}}, "speed"),
        ({"front": []}, "front"),
        ({"plain_quality": {"value": 1.0, "low": 2.0, "high": 3.0}}, "plain_quality"),
        ({"extra": 1}, "extra"),
    ],
)
def test_changed_files_are_refused(artefact, tmp_path, change, words):
    file = tmp_path / "acceleration.json"
    values = artefact.model_dump(mode="json")
    file.write_text(json.dumps(values | change))
    with pytest.raises(ArtefactError, match=words):
        AccelerationArtefact.load(file)
    values["schedule"]["compute"][1] = "x"
    file.write_text(json.dumps(values))
    with pytest.raises(ArtefactError, match="compute does not fit"):
        AccelerationArtefact.load(file)


def test_each_kind_of_file_has_its_loader():
    loaders = {point.name: point.load() for point in entry_points(group=GROUP)}
    kinds = {AccelerationArtefact.KIND: load_tuned, BlockCacheArtefact.KIND: load_block_cache}
    assert {kind.replace(" ", "-"): loader for kind, loader in kinds.items()}.items() <= loaders.items()
