"""Requests that are interrupted between two rows and go on in another engine."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from fake_pipeline import FakePipeline

from headrace.engine import Engine, EngineSettings, Order
from headrace.errors import PlanError
from headrace.models.blocks import find_blocks
from headrace.models.row_cache import attached
from headrace.plan.crossing import Crossing
from headrace.request import Request
from headrace.techniques.guidance.schedule import skip
from headrace.techniques.postdiff.schedule import mixed_resolution

SOLVERS = ["ddim", "dpm++2m", "euler-a", "ddpm", "heun", "unipc"]


def asked(solver="dpm++2m", **changes):
    return Request(prompt="red apple", **({"solver": solver, "steps": 5, "guidance_scale": 3.0, "seed": 7} | changes))


def run(engine):
    while engine.busy:
        engine.step()
    return {result.number: result for result in engine.collect()}


def begun(pipeline, request, plan, rows):
    """An engine in which the request has so many rows done, and its ticket."""
    engine = Engine(pipeline)
    ticket = engine.submit(request, plan)
    for _ in range(rows):
        engine.step(Order(decode=[]))
    engine.step(Order(rows=[], decode=[]))
    return engine, ticket


def resumed(pipeline, request, snapshot):
    engine = Engine(pipeline)
    ticket = engine.enqueue(engine.prepare(request, snapshot=pickle.loads(pickle.dumps(snapshot))))
    return run(engine)[ticket]


def assert_every_row_resumes(pipeline, request, plan=None):
    """Exactly the same picture wherever it is interrupted, as each call has the same batch."""
    plan = plan or Engine(pipeline).plan(request)
    engine, ticket = begun(pipeline, request, plan, 0)
    whole = run(engine)[ticket]
    for row in range(len(plan) + 1):
        engine, ticket = begun(pipeline, request, plan, row)
        snapshot = engine.snapshot(ticket)
        assert snapshot.row == row
        result = resumed(pipeline, request, snapshot)
        assert (result.pixels == whole.pixels).all(), row
        assert (result.plan, result.settings) == (whole.plan, whole.settings)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_a_request_resumed_at_any_row_becomes_the_same_picture(solver, guidance):
    assert_every_row_resumes(FakePipeline(), asked(solver, guidance_scale=guidance))


@pytest.mark.parametrize("solver", ["euler-a", "dpm++2m"])
def test_real_networks_resume_too(tiny_pipeline, solver):
    pipeline = tiny_pipeline("sd1")
    assert_every_row_resumes(pipeline, asked(solver, steps=3))


@pytest.mark.parametrize("way", list(Crossing))
def test_rows_of_several_sizes_resume_on_either_side(way):
    pipeline, request = FakePipeline(), asked(steps=6, height=32)
    plan = mixed_resolution(Engine(pipeline).plan(request), 0.5, 0.5).with_columns(crossing=int(way))
    assert_every_row_resumes(pipeline, request, plan)


def test_the_engine_that_was_interrupted_goes_on_undisturbed():
    request = asked("euler-a")
    engine, ticket = begun(FakePipeline(), request, None, 2)
    before = engine.snapshot(ticket)
    latents = before.latents.copy()
    result = run(engine)[ticket]
    assert (before.latents == latents).all()
    assert (result.pixels == Engine(FakePipeline()).generate([request])[0].pixels).all()
    with pytest.raises(AttributeError):
        before.row = 0


def test_in_company_it_is_the_picture_that_it_is_alone():
    requests = [asked(solver, seed=seed) for seed, solver in enumerate(SOLVERS)]
    alone = [Engine(FakePipeline()).generate([request])[0] for request in requests]
    engine = Engine(FakePipeline())
    tickets = [engine.submit(request) for request in requests]
    for _ in range(3):
        engine.step()
    snapshots = [engine.snapshot(ticket) for ticket in tickets]
    other = Engine(FakePipeline(), EngineSettings(slots=3))
    tickets = [
        other.enqueue(other.prepare(request, snapshot=snapshot))
        for request, snapshot in zip(requests, snapshots, strict=True)
    ]
    assert [other.progress(ticket).row for ticket in tickets] == [3] * 6
    results = run(other)
    for ticket, reference in zip(tickets, alone, strict=True):
        assert np.abs(results[ticket].pixels.astype(int) - reference.pixels.astype(int)).max() <= 1


def test_guidance_that_was_left_out_on_the_way_stays_left_out():
    pipeline, request = FakePipeline(), asked()
    plan = Engine(pipeline).plan(request)
    engine, ticket = begun(pipeline, request, plan, 2)
    engine.replan(ticket, skip(plan, [2]))
    engine.step(Order(decode=[]))
    snapshot = engine.snapshot(ticket)
    whole, other = run(engine)[ticket], Engine(pipeline)
    number = other.enqueue(other.prepare(request, snapshot=snapshot))
    other.replan(number, skip(snapshot.plan, [4]))
    with pytest.raises(PlanError, match="before row 3"):
        other.replan(number, skip(snapshot.plan, [1]))
    assert run(other)[number].settings["unguided_rows"] == [2, 4]
    result = resumed(pipeline, request, snapshot)
    assert (result.pixels == whole.pixels).all()
    assert result.settings["unguided_rows"] == [2]


def test_nothing_is_kept_of_who_waits_is_decoded_or_is_gone():
    request = asked()
    engine = Engine(FakePipeline(), EngineSettings(slots=1))
    first, second = engine.submit(request), engine.submit(request)
    engine.step()
    assert engine.snapshot(first) is not None
    assert engine.snapshot(second) is None
    taken = engine.snapshot(first)
    third = engine.enqueue(engine.prepare(request, snapshot=taken))
    assert engine.snapshot(third) is taken
    for _ in range(4):
        engine.step(Order(decode=[]))
    assert engine.snapshot(first).row == 5
    engine.step(Order(decode=[first], chunks=3))
    assert engine.snapshot(first) is None
    assert engine.snapshot(99) is None


def test_rows_that_reuse_block_values_have_no_snapshot(tiny_model):
    from headrace.models.pipelines.loading import load

    pipeline = load(tiny_model("sd1"))
    with attached(pipeline, find_blocks(pipeline.network, "transformer")) as cache:
        request = asked(steps=4)
        compute = np.ones((4, len(cache.blocks)), bool)
        compute[1] = compute[3] = False
        plan = Engine(pipeline).plan(asked("ddim", steps=4)).with_columns(compute=compute)
        whole = {}
        for row in range(5):
            engine, ticket = begun(pipeline, request, plan, row)
            snapshot = engine.snapshot(ticket)
            assert (snapshot is None) == (row in (1, 3))
            if snapshot is not None:
                whole[row] = resumed(pipeline, request, snapshot).pixels
    assert (whole[0] == whole[2]).all()
    assert (whole[0] == whole[4]).all()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"row": 9}, "row 9 of a plan of 5"),
        ({"latents": np.zeros((3, 4, 4), np.float32)}, "latents are float32"),
        ({"latents": np.zeros((3, 8, 8))}, "latents are float64"),
        ({"registers": np.zeros((2, 3, 8, 8), np.float32)}, "registers"),
    ],
)
def test_a_snapshot_of_something_else_is_refused_before_any_work(change, match):
    engine, ticket = begun(FakePipeline(), asked(), None, 2)
    snapshot = replace(engine.snapshot(ticket), **change)
    other = Engine(FakePipeline())
    with pytest.raises(PlanError, match=match):
        other.prepare(asked(), snapshot=snapshot)
    with pytest.raises(PlanError, match="Resume with the request"):
        other.prepare(asked(height=32), snapshot=engine.snapshot(ticket))
    assert not other.busy
