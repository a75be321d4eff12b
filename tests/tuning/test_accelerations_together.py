"""Files of several kinds attached to one engine, as `Engine.from_pretrained` does."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.engine import Engine
from headrace.models.blocks import find_blocks
from headrace.models.pipelines.fingerprint import pipeline_fingerprint
from headrace.models.pipelines.loading import load
from headrace.request import Request
from headrace.techniques.block_caching.artefact import BlockCacheArtefact, Choice, solver_identity
from headrace.techniques.block_caching.calibrate import measure_work, profile
from headrace.tuning.acceleration import AccelerationArtefact, CacheSchedule, Expectation, FrontPoint
from headrace.tuning.interval import Interval
from headrace.tuning.settings import Settings

STEPS = 4
ASKED = Request(prompt="red apple", guidance_scale=4.0, seed=2)


@pytest.fixture(scope="module")
def files(tiny_model, tmp_path_factory):
    pipeline = load(tiny_model("sd1"))
    folder = tmp_path_factory.mktemp("accelerations")
    request = ASKED.model_copy(update={"solver": "ddim", "steps": STEPS})
    plan = Engine(pipeline).plan(request)
    known = {"model": "sd1", "weights": pipeline_fingerprint(pipeline), "solver": solver_identity(plan), "steps": STEPS}
    found = profile(pipeline, plan, [request], measure_work(pipeline, request))
    cache = BlockCacheArtefact.build(found, Choice(saving=0.05), **known, solver_name="ddim", guidance_scale=4.0)
    cache.save(folder / "schedule.json")
    settings = Settings(solver="ddim", steps=STEPS, guidance_share=0.5, block_saving=0.1)
    expected = Expectation(pictures=8, speedup=Interval.exact(2.0), quality=Interval.exact(0.9))
    blocks = find_blocks(pipeline.network, "transformer")
    lines = tuple(("#" if row % 2 == 0 else ".") * len(blocks) for row in range(STEPS))
    tuned = AccelerationArtefact(
        **known, settings=settings, baseline=Settings(solver="ddim"), guidance_scale=4.0, metric="similarity",
        schedule=CacheSchedule(blocks=blocks, timesteps=tuple(plan.timestep.tolist()), compute=lines),
        wish="2 times as fast", plain_quality=Interval.exact(1.0), expected=expected, confirmed=expected,
        front=(FrontPoint(settings=settings, expected=expected),), machine={"cores": 2},
    )  # fmt: skip
    tuned.save(folder / "acceleration.json")
    return {"blocks": folder / "schedule.json", "tuned": folder / "acceleration.json"}


def picture(engine, acceleration=None):
    ticket = engine.enqueue(engine.prepare(ASKED, acceleration=acceleration))
    while engine.busy:
        engine.step()
    [result] = engine.collect()
    assert result.number == ticket
    return result


def test_files_of_several_kinds_serve_side_by_side(tiny_model, files):
    folder = tiny_model("sd1")
    together = Engine.from_pretrained(folder, accelerations=files)
    plain = picture(Engine.from_pretrained(folder))
    assert np.array_equal(picture(together).pixels, plain.pixels)
    assert len(plain.plan) > STEPS
    for name, path in files.items():
        single = picture(Engine.from_pretrained(folder, acceleration=path))
        found = picture(together, name)
        assert (found.request.steps, found.request.solver) == (STEPS, "ddim")
        assert np.array_equal(found.pixels, single.pixels)
        assert not single.plan.compute.all()


def test_one_of_them_can_be_for_whoever_names_none(tiny_model, files):
    engine = Engine.from_pretrained(
        tiny_model("sd1"), acceleration=files["blocks"], accelerations={"tuned": files["tuned"]}
    )
    assert len(engine.plan(ASKED)) == STEPS
    assert not engine.plan(ASKED).compute.all()
    assert engine.plan(ASKED, "tuned").guidance.tolist() == [4.0, 4.0, 1.0, 1.0]
