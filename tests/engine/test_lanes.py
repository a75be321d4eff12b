import threading

import numpy as np
import pytest
import torch
from fake_pipeline import FakePipeline

from headrace.engine import Engine, EngineSettings, Order
from headrace.engine.lanes import lane_of
from headrace.errors import ExecutionError, HeadraceError, OrderError
from headrace.models.pipelines.loading import load
from headrace.request import Request

PATIENCE_S = 30
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="streams need a CUDA device")


def asked(count, steps=2, **changes):
    return [Request(prompt="red apple", steps=steps, solver="ddim", seed=i, **changes) for i in range(count)]


def held(steps=2, **options):
    """An engine whose decoder waits for an event, with one denoised request and one that has rows to come."""
    pipeline, go_on = FakePipeline(), threading.Event()
    pipeline.before_chunk = lambda position: go_on.wait(PATIENCE_S)
    engine = Engine(pipeline, EngineSettings(lane="threads", **options))
    first = engine.submit(asked(1, steps)[0])
    for _ in range(steps):
        engine.step(Order(decode=()))
    second = engine.submit(asked(1, 9)[0])
    return engine, go_on, first, second


def test_a_chunk_runs_on_over_the_rounds_that_follow():
    engine, go_on, first, second = held()
    for row in range(1, 5):
        report = engine.step(Order(decode=[first] if row == 1 else [], chunks=2))
        assert (report.rows, report.chunks, report.chunks_ended) == (1, row == 1, 0)
        assert engine.in_flight == {first}
        assert engine.progress(second).row == row
    assert (engine.progress(first).chunk, engine.progress(first).chunks) == (0, 2)
    with pytest.raises(OrderError, match="another one runs"):
        engine.step(Order(rows=[second], decode=[first]))
    assert engine.progress(second).row == 4
    go_on.set()
    report = engine.step(Order(rows=[], decode=[]))  # a round without rows lasts until the chunk is done
    assert (report.rows, report.chunks_ended) == (0, 1)
    assert engine.in_flight == frozenset()
    assert engine.progress(first).chunk == 1
    engine.close()


def test_a_round_that_only_admits_waits_for_no_chunk():
    engine, go_on, first, second = held()
    engine.step(Order(admit=[second], decode=[first]))
    third = engine.submit(asked(1)[0])
    report = engine.step(Order(admit=[third], rows=[], decode=[]))
    assert (report.admitted, report.chunks_ended, engine.in_flight) == ((third,), 0, {first})
    go_on.set()
    engine.close()


def test_collecting_waits_for_nothing():
    engine, go_on, first, _ = held()
    engine.step(Order(decode=[first]))
    assert engine.collect() == []
    go_on.set()
    while engine.in_flight:
        engine.poll()
    assert [result.number for result in engine.collect()] == [first]
    engine.close()


def test_a_picture_does_not_wait_for_every_call_of_its_round():
    engine, go_on, first, _ = held()
    engine.submit(asked(1, 9, height=24)[0])  # another size, so another call
    engine.step(Order(decode=[first]))
    calls, delivered = [], []
    engine.on_result = lambda result: delivered.append((result.number, len(calls)))
    evaluate = engine.pipeline.evaluate

    def first_call_lets_the_decoder_go_on(rows):
        if not calls:
            go_on.set()
            engine._executor.decoder._running[0].wait()
        calls.append(len(rows))
        return evaluate(rows)

    engine.pipeline.evaluate = first_call_lets_the_decoder_go_on
    engine.step(Order(decode=[]))
    assert delivered == [(first, 1)]
    assert len(calls) == 2
    engine.close()


def test_without_an_order_decodings_run_beside_the_rows():
    engine, go_on, first, second = held()
    assert [engine.step().rows for _ in range(3)] == [1, 1, 1]
    assert engine.in_flight == {first}
    go_on.set()
    while engine.busy:
        engine.step()
    assert [result.number for result in engine.collect()] == [first, second]
    engine.close()


def test_the_time_of_a_chunk_is_known_when_it_is_done():
    engine, go_on, first, _ = held()
    report = engine.step(Order(decode=[first]))
    threading.Timer(0.05, go_on.set).start()
    assert report.decode_s > 0.04  # waits for the chunk
    assert 0 < report.unet_s < report.decode_s
    engine.close()


def test_cancelling_what_is_in_flight_frees_its_slot_and_shows_nothing():
    engine, go_on, first, second = held(slots=2)
    third = engine.submit(asked(1)[0])
    engine.step(Order(decode=[first]))
    assert engine.cancel(first)
    assert engine.in_flight == frozenset()
    assert engine.step(Order(decode=[])).admitted == (third,)
    go_on.set()
    while engine.busy:
        engine.step()
    assert sorted(result.number for result in engine.collect()) == [second, third]
    engine.close()


def test_the_chunks_thread_has_its_own_torch_threads_and_rows_have_the_rest():
    seen = {}
    pipeline, go_on = FakePipeline(), threading.Event()

    def chunk(position):
        seen["chunk"] = torch.get_num_threads(), threading.current_thread().name
        go_on.wait(PATIENCE_S)

    pipeline.before_chunk = chunk
    evaluate = pipeline.evaluate

    def rows(batch):
        seen.setdefault("rows", []).append(torch.get_num_threads())
        return evaluate(batch)

    pipeline.evaluate = rows
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        engine = Engine(pipeline, EngineSettings(lane="threads", side_threads=2))
        first, _ = (engine.submit(request) for request in (asked(1, 1)[0], asked(1, 5)[0]))
        engine.step(Order(decode=[]))
        engine.step(Order(decode=[first]))
        go_on.set()
        engine.step(Order(rows=[], decode=[]))
        engine.step(Order(decode=[]))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
        engine.close()
    assert seen["rows"] == [3, 1, 3]
    assert seen["chunk"][0] == 2
    assert "headrace-decode" in seen["chunk"][1]


def test_a_decoder_that_raises_in_the_thread_fails_its_own_request():
    pipeline = FakePipeline()
    engine = Engine(pipeline, EngineSettings(lane="threads"))
    tickets = [engine.submit(request) for request in asked(4)]
    while engine.denoising or engine.waiting:
        engine.step(Order(decode=()))
    bad = engine._pool.find(tickets[1]).latents.clone()
    pipeline.undecodable = lambda latents: any((one == bad).all() for one in latents)
    while engine.busy:
        engine.step()
    results = {result.number: result for result in engine.collect()}
    assert [isinstance(results[ticket].error, ExecutionError) for ticket in tickets] == [False, True, False, False]
    assert "smash" in str(results[tickets[1]].error)
    engine.close()


def test_a_decoder_that_cannot_even_be_cut_fails_its_request():
    pipeline = FakePipeline()
    pipeline.decoder_chunks = lambda shape, chunks: 1 / 0
    [result] = Engine(pipeline).generate(asked(1))
    assert "ZeroDivisionError" in str(result.error)


@pytest.mark.parametrize("kind", ["sd1", "sdxl", "ldm", "ddpm"])
@pytest.mark.parametrize("lane", ["interleaved", "threads"])
def test_chunked_decodings_of_real_families_change_no_bit(tiny_pipeline, kind, lane):
    pipeline = tiny_pipeline(kind)
    text = {} if kind in ("ldm", "ddpm") else {"prompt": "red apple"}
    requests = [Request(steps=steps, solver="ddim", seed=steps, **text) for steps in (1, 3)]
    alone = Engine(pipeline, EngineSettings(lane="interleaved"))
    expected = [alone.generate([request])[0].pixels for request in requests]
    for chunks in (1, 3, 100):
        engine = Engine(pipeline, EngineSettings(lane=lane, max_rows=2, decode_batch=1))
        tickets = [engine.submit(request) for request in requests]
        while engine.busy:
            engine.step(Order(decode=set(engine.decoding) - engine.in_flight, chunks=chunks))
        found = {result.number: result.pixels for result in engine.collect()}
        engine.close()
        assert all(np.array_equal(found[ticket], pixels) for ticket, pixels in zip(tickets, expected, strict=True))


@pytest.mark.parametrize(("lane", "device"), [("streams", "cpu"), ("threads", "cuda"), ("streams", "mps")])
def test_lanes_that_a_device_does_not_have_are_refused(lane, device):
    with pytest.raises(HeadraceError, match=f"lane is '{lane}' and the model is on {device}"):
        lane_of(torch.device(device), EngineSettings(lane=lane))


def test_an_unknown_lane_is_refused():
    with pytest.raises(HeadraceError, match="lane is 'fast'"):
        EngineSettings(lane="fast")


def test_interleaved_is_the_default():
    assert not lane_of(torch.device("cpu"), EngineSettings()).concurrent


@needs_cuda
@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_streams_make_the_pictures_of_one_stream(tiny_model, kind):
    pipeline = load(tiny_model(kind), device="cuda")
    requests = asked(6, 4)
    expected = Engine(pipeline, EngineSettings(lane="interleaved", decode_batch=1)).generate(requests)
    for chunks in (1, 4):
        engine = Engine(pipeline, EngineSettings(lane="streams", decode_batch=1, slots=3))
        tickets = [engine.submit(request) for request in requests]
        found = {}
        while engine.busy:
            engine.step(Order(decode=set(engine.decoding) - engine.in_flight, chunks=chunks))
            found |= {result.number: result.pixels for result in engine.collect()}
        for ticket, reference in zip(tickets, expected, strict=True):
            assert np.abs(found[ticket].astype(int) - reference.pixels.astype(int)).max() <= 3


@needs_cuda
def test_rounds_on_streams_are_timed_by_events(tiny_model):
    engine = Engine(load(tiny_model("sd1"), device="cuda"))
    assert engine._executor.decoder.lane.concurrent
    first, second = (engine.submit(request) for request in (asked(1, 1)[0], asked(1, 5)[0]))
    engine.step(Order(decode=[]))
    report = engine.step(Order(rows=[second], decode=[first]))
    assert 0 < report.unet_s < 60
    assert 0 < report.decode_s < 60
