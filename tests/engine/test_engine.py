import numpy as np
import pytest
import torch
from fake_pipeline import FakePipeline
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine import Engine, EngineSettings, Order
from headrace.errors import (
    CapacityError,
    ExecutionError,
    NumericalError,
    PlanError,
    RequestError,
    SolverError,
)
from headrace.request import Request

SOLVERS = ["ddim", "dpm++2m", "euler", "unipc", "heun", "euler-a"]


def crowd(count, **changes):
    return [
        Request(
            prompt="red apple "[: 3 + i % 7],
            steps=3 + i % 4,
            solver=SOLVERS[i % len(SOLVERS)],
            guidance_scale=[1.0, 2.5, 7.0][i % 3],
            height=[16, 24][i % 2],
            seed=i,
            **changes,
        )
        for i in range(count)
    ]


def pixels_alone(request):
    return Engine(FakePipeline()).generate([request])[0].pixels


def assert_same_picture(one, other):
    difference = np.abs(one.astype(int) - other.astype(int))
    assert difference.max() <= 3
    assert (difference <= 1).mean() >= 0.999


def run_to_the_end(engine, rounds=1000):
    results = []
    for _ in range(rounds):
        engine.step()
        results += engine.collect()
        if not engine.busy:
            return results
    raise AssertionError("the engine did not come to an end")


def test_a_crowd_comes_out_in_order_and_each_as_if_alone():
    requests = crowd(12)
    results = Engine(FakePipeline()).generate(requests)
    assert [result.request for result in results] == requests
    for result in results:
        assert_same_picture(result.pixels, pixels_alone(result.request))


def test_rows_with_one_batch_key_run_as_one_call_whatever_their_settings():
    pipeline = FakePipeline()
    engine = Engine(pipeline)
    for index, solver in enumerate(SOLVERS):
        engine.submit(Request(prompt="a", steps=5 + index, solver=solver, guidance_scale=1.0 + index, seed=index))
    report = engine.step()
    assert (report.calls, report.rows, report.network_rows) == (1, 6, 11)
    assert pipeline.calls == [11]


def test_guidance_off_costs_half():
    for scale, expected in ((4.0, 2), (1.0, 1)):
        pipeline = FakePipeline()
        Engine(pipeline).generate([Request(prompt="a", steps=4, guidance_scale=scale)])
        assert pipeline.calls == [expected] * 4


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=6, max_size=6), st.integers(1, 6), st.integers(2, 9), st.randoms())
def test_arrival_order_slots_and_batch_size_never_change_a_picture(gaps, slots, max_rows, random):
    requests = crowd(6)
    random.shuffle(requests)
    engine = Engine(FakePipeline(), EngineSettings(slots=slots + 2, max_rows=max_rows, decode_batch=2))
    results = []
    for request, gap in zip(requests, gaps, strict=True):
        engine.submit(request)
        for _ in range(gap):
            engine.step()
        results += engine.collect()
    results += run_to_the_end(engine)
    assert len(results) == 6
    for result in results:
        assert_same_picture(result.pixels, pixels_alone(result.request))


def test_slots_bound_what_is_resident_and_the_rest_waits():
    engine = Engine(FakePipeline(), EngineSettings(slots=3))
    for request in crowd(8, width=16):
        engine.submit(request.model_copy(update={"height": 16}))
    report = engine.step()
    assert report.resident == 3
    assert report.waiting == 5
    assert len(run_to_the_end(engine)) == 8


def test_a_large_picture_takes_several_slots_and_is_not_overtaken():
    engine = Engine(FakePipeline(), EngineSettings(slots=3))  # the large one needs all three
    small = Request(prompt="a", steps=3, solver="ddim")
    first = engine.submit(small)
    large = engine.submit(small.model_copy(update={"height": 32, "width": 32, "solver": "dpm++3m", "steps": 10}))
    later = engine.submit(small)
    engine.step()
    assert engine.resident == [first]
    while engine.resident in ([first], []):
        engine.step()
    assert engine.resident[0] == large
    assert later > large
    assert len(run_to_the_end(engine)) == 3


def test_a_request_that_can_never_fit_is_refused_when_submitted():
    engine = Engine(FakePipeline(), EngineSettings(slots=2))
    with pytest.raises(CapacityError, match=r"slots=\d+"):
        engine.submit(Request(prompt="a", height=128, width=128))
    assert not engine.busy


def test_waiting_requests_cost_kilobytes():
    import tracemalloc

    engine = Engine(FakePipeline(), EngineSettings(slots=1))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for index in range(10_000):
        engine.submit(Request(prompt=f"apple number {index}", seed=index))
    each = (tracemalloc.get_traced_memory()[0] - before) / 10_000
    tracemalloc.stop()
    assert each < 4096


@pytest.mark.parametrize(
    ("prompt", "error"), [("nan", NumericalError), ("boom", ExecutionError), ("mute", ExecutionError)]
)
def test_a_failing_request_fails_alone(prompt, error):
    good = crowd(5)
    bad = Request(prompt=prompt, steps=6, solver="euler", height=24)
    results = Engine(FakePipeline()).generate([*good[:2], bad, *good[2:]])
    assert isinstance(results[2].error, error)
    with pytest.raises(error):
        _ = results[2].image
    for result in results[:2] + results[3:]:
        assert_same_picture(result.pixels, pixels_alone(result.request))


def test_a_picture_that_cannot_be_decoded_fails_alone():
    requests = [Request(prompt="a", steps=3, seed=seed) for seed in range(5)]
    expected = Engine(FakePipeline()).generate(requests)
    pipeline = FakePipeline()
    seen = []

    def third_of_the_first_call(latents):
        if not seen:
            seen.append(latents[2].clone())
        return any(torch.equal(one, seen[0]) for one in latents)

    pipeline.undecodable = third_of_the_first_call
    results = Engine(pipeline).generate(requests)
    assert [isinstance(result.error, ExecutionError) for result in results] == [False, False, True, False, False]
    assert (results[4].pixels == expected[4].pixels).all()


def test_nan_in_the_last_row_is_found_too():
    assert isinstance(Engine(FakePipeline()).generate([Request(prompt="nan", steps=1)])[0].error, NumericalError)


def test_a_failed_request_frees_its_slot():
    engine = Engine(FakePipeline(), EngineSettings(slots=1))
    results = engine.generate([Request(prompt=word, steps=3) for word in ("boom", "nan", "mute", "apple")])
    assert [result.error is None for result in results] == [False, False, False, True]
    assert not engine.busy


def test_cancelled_requests_never_appear_and_free_their_slots():
    engine = Engine(FakePipeline(), EngineSettings(slots=2))
    tickets = [engine.submit(request.model_copy(update={"height": 16})) for request in crowd(4)]
    engine.step()
    assert engine.cancel(tickets[0])
    assert engine.cancel(tickets[3])
    assert not engine.cancel(tickets[0])
    assert not engine.cancel(999)
    assert sorted(result.number for result in run_to_the_end(engine)) == tickets[1:3]


def test_a_round_can_be_kept_to_some_requests():
    engine = Engine(FakePipeline())
    first, second = (engine.submit(Request(prompt="a", steps=2, seed=seed)) for seed in (0, 1))
    engine.step(Order(rows=[second]))
    engine.step(Order(rows=[second]))
    assert [result.number for result in engine.collect()] == [second]
    assert engine.resident == [first]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (Request(prompt="a", height=20), RequestError),
        (Request(), RequestError),
        (Request(prompt="a", class_label=3), RequestError),
        (Request(prompt="a", solver="runge-kutta"), SolverError),
    ],
)
def test_generate_refuses_bad_requests_before_any_work(request_, error):
    pipeline = FakePipeline()
    engine = Engine(pipeline)
    with pytest.raises(error):
        engine.generate([Request(prompt="fine"), request_])
    assert pipeline.calls == []
    assert not engine.busy


def test_a_plan_whose_decisions_the_model_cannot_carry_out_is_refused():
    engine = Engine(FakePipeline())
    request = Request(prompt="a", steps=4)
    plan = engine.plan(request)
    for column, value in (("fusion", 2), ("stage", [0, 0, 1, 1])):
        with pytest.raises(PlanError, match=column):
            engine.submit(request, plan.with_columns(**{column: value}))


def test_a_plan_given_with_the_request_is_executed():
    pipeline = FakePipeline()
    engine = Engine(pipeline)
    request = Request(prompt="a", steps=4, guidance_scale=3.0)
    plan = engine.plan(request).with_columns(guidance=[3.0, 3.0, 1.0, 1.0])
    engine.submit(request, plan)
    (result,) = run_to_the_end(engine)
    assert pipeline.calls == [2, 2, 1, 1]
    assert result.plan == plan


def test_progress_reports_every_round_and_ends_complete():
    seen = []
    requests = crowd(3)
    Engine(FakePipeline()).generate(requests, progress=seen.append)
    assert [p.rows_done for p in seen] == sorted(p.rows_done for p in seen)
    assert (seen[-1].finished, seen[-1].rows_done) == (3, seen[-1].rows_total)


def test_results_of_other_tickets_survive_generate():
    engine = Engine(FakePipeline())
    ticket = engine.submit(Request(prompt="a", steps=2))
    engine.generate([Request(prompt="b", steps=4)])
    assert [result.number for result in engine.collect()] == [ticket]
    assert engine.generate([]) == []
