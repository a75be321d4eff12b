"""A pipeline that follows a cache schedule: calibrated, saved, enabled and run by the engine."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from saved_profile import make_artefact

from headrace.engine import Engine
from headrace.errors import ArtefactError, HeadraceWarning, ModelError
from headrace.models.pipelines.fingerprint import pipeline_fingerprint
from headrace.models.pipelines.loading import load
from headrace.request import Request
from headrace.techniques.block_caching.artefact import BlockCacheArtefact, Choice, solver_identity
from headrace.techniques.block_caching.calibrate import measure_work, profile
from headrace.techniques.block_caching.network import enable

STEPS = 5
REQUEST = Request(prompt="red apple", steps=STEPS, solver="ddim", guidance_scale=3.0, seed=4)


@pytest.fixture(scope="module")
def artefact(tiny_model) -> BlockCacheArtefact:
    pipeline = load(tiny_model("sd2"))
    plan = Engine(pipeline).plan(REQUEST)
    found = profile(pipeline, plan, [REQUEST], measure_work(pipeline, REQUEST))
    return BlockCacheArtefact.build(
        found, Choice(saving=0.05), model=pipeline.name, weights=pipeline_fingerprint(pipeline),
        solver=solver_identity(plan), steps=STEPS, solver_name="ddim", guidance_scale=3.0,
    )  # fmt: skip


def picture(engine: Engine, request: Request = REQUEST) -> np.ndarray:
    [result] = engine.generate([request])
    assert result.error is None
    return result.pixels


def test_the_engine_follows_the_schedule(tiny_model, artefact):
    plain = Engine(load(tiny_model("sd2")))
    pipeline = load(tiny_model("sd2"))
    engine = Engine(pipeline, decide=enable(pipeline, artefact))
    assert plain.plan(REQUEST).differences(engine.plan(REQUEST)) == ("compute",)
    assert np.array_equal(engine.plan(REQUEST).compute, artefact.schedule.compute)
    assert 0.05 <= artefact.saving < 1
    assert not np.array_equal(picture(engine), picture(plain))


def test_threshold_zero_changes_no_bit(tiny_model, artefact):
    pipeline = load(tiny_model("sd2"))
    engine = Engine(pipeline, decide=enable(pipeline, artefact.rebuilt(Choice(delta=0.0))))
    assert np.array_equal(picture(engine), picture(Engine(load(tiny_model("sd2")))))


def test_other_step_counts_warn_and_run(tiny_model, artefact):
    pipeline = load(tiny_model("sd2"))
    engine = Engine(pipeline, decide=enable(pipeline, artefact, torch.bfloat16))
    more = REQUEST.model_copy(update={"steps": 8})
    with pytest.warns(HeadraceWarning, match="made for 5 rows and is stretched to 8"):
        plan = engine.plan(more)
    assert plan.compute.shape == (8, len(artefact.blocks))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HeadraceWarning)
        assert np.isfinite(picture(engine, more)).all()


def test_another_solver_is_refused_before_any_work(tiny_model, artefact):
    pipeline = load(tiny_model("sd2"))
    engine = Engine(pipeline, decide=enable(pipeline, artefact))
    for solver, words in (("euler", "solver is EulerDiscreteScheduler"), ("dpm++2m", "made with ddim")):
        with pytest.raises(ArtefactError, match=words):
            engine.submit(REQUEST.model_copy(update={"solver": solver}))
    assert not engine.busy
    karras = artefact.model_copy(update={"solver": "DDIMScheduler 000000000000"})
    pipeline.row_cache.remove()
    pipeline.row_cache = None
    with pytest.raises(ArtefactError, match="the same class, otherwise configured"):
        Engine(pipeline, decide=enable(pipeline, karras)).plan(REQUEST)


def test_another_model_other_blocks_and_a_second_cache_are_refused(tiny_model, artefact):
    pipeline = load(tiny_model("sd2"))
    with pytest.raises(ArtefactError, match="made for boat"):
        enable(pipeline, make_artefact())
    with pytest.raises(ArtefactError, match="made for sd2"):
        enable(load(tiny_model("sd1")), artefact)
    foreign = make_artefact(weights=artefact.weights, solver=artefact.solver)
    with pytest.raises(ArtefactError, match="has none that is called so"):
        enable(pipeline, foreign)
    assert pipeline.row_cache is None
    enable(pipeline, artefact)
    with pytest.raises(ModelError, match="caches blocks already"):
        enable(pipeline, artefact)


def test_pipelines_that_came_from_no_folder_have_a_fingerprint_too(tiny_model):
    import tiny_models
    from headrace.models.pipelines.pixel import PixelPipeline

    def built(seed: int) -> PixelPipeline:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            return PixelPipeline(tiny_models.ddim(), "built")

    assert pipeline_fingerprint(built(0)) == pipeline_fingerprint(built(0)) != pipeline_fingerprint(built(1))
    folder = tiny_model("ddim")
    assert pipeline_fingerprint(load(folder)) == pipeline_fingerprint(load(folder)) != pipeline_fingerprint(built(0))
