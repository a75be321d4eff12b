import threading

import numpy as np
import pytest
import torch
from fake_pipeline import FakePipeline

from headrace.engine import Engine, EngineSettings, Order
from headrace.errors import ExecutionError
from headrace.request import Request

PATIENCE_S = 30


def asked(count, **changes):
    return [Request(prompt=f"apple {i}", steps=2 + i % 3, solver="ddim", seed=i, **changes) for i in range(count)]


class Holding(FakePipeline):
    """Encodes prompts with "slow" when it is told to, and remembers who encoded what."""

    def __init__(self):
        super().__init__()
        self.go_on = threading.Event()
        self.encoded = []
        self.before_encoding = self._note

    def _note(self, requests):
        self.encoded.append((threading.current_thread().name, [request.prompt for request in requests]))
        if any("slow" in request.prompt for request in requests):
            assert self.go_on.wait(PATIENCE_S)


def ahead(pipeline, **options):
    return Engine(pipeline, EngineSettings(encode_ahead=True, **options))


def test_pictures_are_those_of_encoding_at_admission():
    expected = Engine(FakePipeline()).generate(asked(7))
    engine = ahead(FakePipeline(), slots=3)
    results = engine.generate(asked(7))
    engine.close()
    for result, reference in zip(results, expected, strict=True):
        assert np.abs(result.pixels.astype(int) - reference.pixels.astype(int)).max() <= 1


def test_rows_go_on_while_a_prompt_is_encoded():
    pipeline = Holding()
    engine = ahead(pipeline)
    first = engine.submit(Request(prompt="a", steps=9))
    while not engine.denoising:
        engine.step(Order(rows=[], decode=[]))
    slow = engine.submit(Request(prompt="slow", steps=2))
    for row in range(1, 4):
        report = engine.step()
        assert (report.rows, report.admitted) == (1, ())
        assert (engine.waiting, engine.progress(first).row) == ([slow], row)
    pipeline.go_on.set()
    while engine.busy:
        engine.step()
    assert sorted(result.number for result in engine.collect()) == [first, slow]
    assert {name.rsplit("_", 1)[0] for name, _ in pipeline.encoded} == {"headrace-encode"}
    engine.close()


def test_with_nothing_else_to_do_the_prompt_is_waited_for():
    pipeline = Holding()
    engine = ahead(pipeline)
    ticket = engine.submit(Request(prompt="slow", steps=2))
    threading.Timer(0.05, pipeline.go_on.set).start()
    assert engine.step().admitted == (ticket,)
    engine.close()


def test_as_many_are_encoded_ahead_as_there_are_slots_and_in_few_calls():
    pipeline = Holding()
    engine = ahead(pipeline, slots=3)
    engine.submit(Request(prompt="slow", steps=2))
    for request in asked(20):
        engine.submit(request)
    pipeline.go_on.set()
    engine.close()  # ends when what was begun is encoded
    prompts = [prompt for _, batch in pipeline.encoded for prompt in batch]
    assert sorted(prompts) == ["apple 0", "apple 1", "slow"]
    assert len(pipeline.encoded) <= 2 or pipeline.encoded[0][1] != ["slow"]


def test_a_prompt_that_cannot_be_encoded_fails_its_own_request():
    engine = ahead(FakePipeline())
    requests = [*asked(2), Request(prompt="mute", steps=2), *asked(2)]
    errors = [result.error for result in engine.generate(requests)]
    engine.close()
    assert isinstance(errors[2], ExecutionError)
    assert "no words" in str(errors[2])
    assert errors[:2] == errors[3:] == [None, None]


@pytest.mark.parametrize("drop", ["before", "after"])
def test_a_cancelled_request_is_encoded_for_nobody(drop):
    pipeline = Holding()
    engine = ahead(pipeline)
    slow = engine.submit(Request(prompt="slow", steps=2))
    other = engine.submit(asked(1)[0])
    if drop == "before":
        assert engine.cancel(slow)
    pipeline.go_on.set()
    if drop == "after":
        assert engine.cancel(slow)
    while engine.busy:
        engine.step()
    assert [result.number for result in engine.collect()] == [other]
    assert engine._executor.admission._encoder._encoded == {}
    engine.close()


def test_real_text_encoders_are_called_in_the_thread_too(tiny_pipeline):
    pipeline = tiny_pipeline("sd1")
    request = Request(prompt="red apple", steps=2, seed=1)
    [expected] = Engine(pipeline).generate([request])
    engine = ahead(pipeline)
    before = torch.get_num_threads()
    [result] = engine.generate([request])
    engine.close()
    assert torch.get_num_threads() == before
    assert np.array_equal(result.pixels, expected.pixels)
