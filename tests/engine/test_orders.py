from random import Random

import numpy as np
import pytest
from fake_pipeline import FakePipeline
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine import Engine, EngineSettings, Order
from headrace.errors import ExecutionError, NumericalError, OrderError
from headrace.request import Request


def asked(count, steps=2, **changes):
    return [Request(prompt="apple"[: 2 + i % 3], steps=steps + i % 3, seed=i, **changes) for i in range(count)]


def engine_of(count, steps=2, lane="interleaved", pipeline=None, **settings):
    engine = Engine(pipeline or FakePipeline(), EngineSettings(lane=lane, **settings))
    return engine, [engine.submit(request) for request in asked(count, steps)]


def denoised(count, **options):
    """An engine with so many requests, all of whose rows are done."""
    engine, tickets = engine_of(count, **options)
    while engine.denoising or engine.waiting:
        engine.step(Order(decode=()))
    assert engine.decoding == tickets
    return engine, tickets


def test_tickets_go_from_state_to_state():
    engine, (first, second) = engine_of(2)
    assert (engine.waiting, engine.denoising, engine.decoding) == ([first, second], [], [])
    report = engine.step(Order(admit=[second], rows=[], decode=[]))
    assert report.admitted == (second,)
    assert (engine.waiting, engine.denoising, engine.decoding) == ([first], [second], [])
    for _ in range(3):
        engine.step(Order(admit=[], decode=[]))
    assert (engine.waiting, engine.denoising, engine.decoding) == ([first], [], [second])
    report = engine.step(Order(admit=[first], decode=[second]))
    assert report.finished_tickets == (second,)
    assert [result.number for result in engine.collect()] == [second]
    assert (engine.waiting, engine.denoising, engine.decoding) == ([], [first], [])


def test_progress_tells_rows_chunks_guidance_and_size():
    engine, (ticket,) = engine_of(1)
    standing = engine.progress(ticket)
    assert (standing.row, standing.rows, standing.guided, standing.size) == (0, 2, True, (16, 16))
    plan = standing.plan.with_columns(guidance=[4.0, 1.0])
    engine.replan(ticket, plan)
    engine.step(Order(decode=[]))
    standing = engine.progress(ticket)
    assert (standing.row, standing.guided, standing.plan) == (1, False, plan)
    engine.step(Order(decode=[]))
    engine.step(Order(decode=[ticket], chunks=3))
    standing = engine.progress(ticket)
    assert (standing.row, standing.guided, standing.chunk, standing.chunks) == (2, False, 1, 3)
    engine.step(Order(decode=[ticket]))
    assert engine.progress(ticket).chunk == 2
    engine.step(Order(decode=[ticket]))
    with pytest.raises(OrderError, match=f"request {ticket}"):
        engine.progress(ticket)


def test_rows_are_those_of_the_order():
    engine, tickets = engine_of(3)
    report = engine.step(Order(rows=tickets[1:]))
    assert report.rows == 2
    assert [engine.progress(ticket).row for ticket in tickets] == [0, 1, 1]


def test_admission_is_in_the_order_s_order_and_a_large_request_is_not_overtaken():
    engine = Engine(FakePipeline(), EngineSettings(slots=3))
    small, other = asked(2)
    first, second = engine.submit(small), engine.submit(other)
    large = engine.submit(small.model_copy(update={"height": 32, "width": 32, "solver": "dpm++3m", "steps": 10}))
    assert engine.step(Order(admit=[second], rows=[], decode=[])).admitted == (second,)
    report = engine.step(Order(admit=[large, first], rows=[large], decode=[]))  # its rows wait with it
    assert (report.admitted, report.rows) == ((), 0)
    assert engine.waiting == [first, large]


@pytest.mark.parametrize("lane", ["interleaved", "threads"])
def test_equal_chunks_run_as_one_call_and_others_apart(lane):
    pipeline = FakePipeline()
    engine, tickets = denoised(3, pipeline=pipeline, lane=lane)
    engine.step(Order(decode=tickets[:2], chunks=3))
    engine.step(Order(decode=tickets, chunks=3))
    assert sorted(pipeline.chunk_calls) == [(0, 1), (0, 2), (1, 2)] or engine.in_flight
    while engine.busy:
        engine.step(Order(decode=set(tickets) - engine.in_flight))
    assert sorted(pipeline.chunk_calls) == [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2)]
    assert len(engine.collect()) == 3


def test_an_order_has_no_more_chunks_than_the_model():
    engine, (ticket,) = denoised(1)
    engine.step(Order(decode=[ticket], chunks=99))
    assert engine.progress(ticket).chunks == FakePipeline.max_chunks


@pytest.mark.parametrize("chunks", [0, -1, 1.5, True, "2"])
def test_chunks_are_a_number_from_one_on(chunks):
    with pytest.raises(OrderError, match="chunks"):
        Order(chunks=chunks)


def test_orders_that_cannot_be_carried_out_are_refused_before_any_work():
    pipeline = FakePipeline()
    engine, (first, second) = engine_of(2, pipeline=pipeline)
    engine.step(Order(admit=[first], rows=[], decode=[]))
    for order, message in [
        (Order(admit=[], rows=[first, second]), f"row of request {second}.*waits"),
        (Order(decode=[first]), f"chunk of request {first}.*rows left"),
        (Order(decode=[second]), f"chunk of request {second}"),
    ]:
        with pytest.raises(OrderError, match=message):
            engine.step(order)
    assert pipeline.calls == []
    engine.step(Order(admit=[], decode=[]))
    engine.step(Order(admit=[], decode=[]))
    with pytest.raises(OrderError, match="rows are done"):
        engine.step(Order(rows=[first]))


def test_tickets_that_are_gone_are_passed_over():
    engine, (first, second) = denoised(2)
    engine.cancel(first)
    report = engine.step(Order(admit=[first], rows=[first], decode=[first, second]))
    assert report.finished_tickets == (second,)


def test_a_decoding_that_fails_in_a_batch_fails_alone():
    pipeline = FakePipeline()
    engine, tickets = denoised(4, pipeline=pipeline)
    bad = engine._pool.find(tickets[2]).latents.clone()
    pipeline.undecodable = lambda latents: any((one == bad).all() for one in latents)
    engine.step(Order(decode=tickets, chunks=2))
    report = engine.step(Order(decode=tickets))
    assert sorted(report.finished_tickets) == tickets
    results = {result.number: result for result in engine.collect()}
    assert isinstance(results[tickets[2]].error, ExecutionError)
    assert all(results[ticket].error is None for ticket in tickets if ticket != tickets[2])


def test_latents_that_are_not_finite_are_found_though_the_decoding_is_cut():
    engine = Engine(FakePipeline())
    ticket = engine.submit(Request(prompt="nan", steps=1))
    engine.step(Order(decode=[]))
    engine.step(Order(decode=[ticket], chunks=2))
    assert isinstance(engine.collect()[0].error, NumericalError)
    assert not engine.busy


def test_a_result_is_handed_over_as_soon_as_it_is_there():
    pipeline = FakePipeline()
    engine, (ticket,) = denoised(1, pipeline=pipeline)
    other = engine.submit(asked(1, steps=5)[0])
    seen = []
    engine.on_result = lambda result: seen.append((result.number, len(pipeline.calls)))
    before = len(pipeline.calls)
    engine.step(Order(rows=[other], decode=[ticket]))
    assert seen == [(ticket, before)]  # chunks come before the rows of their round
    assert len(pipeline.calls) == before + 1
    assert engine.collect() == []


def test_the_report_times_rows_and_chunks_from_the_begin_of_the_round():
    engine, (first, second) = denoised(2)
    report = engine.step(Order(decode=[]))
    assert (report.unet_s, report.decode_s, report.chunks) == (0, 0, 0)
    other = engine.submit(asked(1, steps=5)[0])
    report = engine.step(Order(rows=[other], decode=[first], chunks=2))
    assert 0 < report.decode_s < report.unet_s  # interleaved: the chunk first
    assert (report.chunks, report.chunks_ended) == (1, 1)
    report = engine.step(Order(rows=[], decode=[first, second]))
    assert report.unet_s == 0 < report.decode_s


@pytest.mark.parametrize("lane", ["interleaved", "threads"])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))  # the draws depend on what a thread has done by then, so they are not hypothesis's
def test_any_orders_make_the_pictures_of_generate(lane, seed):
    random = Random(seed)
    requests = asked(5)
    expected = Engine(FakePipeline()).generate(requests)
    engine = Engine(FakePipeline(), EngineSettings(slots=4, decode_batch=2, lane=lane))
    tickets = [engine.submit(request) for request in requests]
    results = {}

    def some(tickets):
        return None if random.random() < 0.2 else random.sample(tickets, random.randint(0, len(tickets)))

    for turn in range(200):
        free = [ticket for ticket in engine.decoding if ticket not in engine.in_flight]
        order = Order(some(engine.waiting), some(engine.denoising), some(free), random.randint(1, 7))
        engine.step(order if turn < 20 else Order())  # then everything runs, so that it ends
        results |= {result.number: result for result in engine.collect()}
        if not engine.busy:
            break
    engine.close()
    for ticket, reference in zip(tickets, expected, strict=True):
        assert np.abs(results[ticket].pixels.astype(int) - reference.pixels.astype(int)).max() <= 1
