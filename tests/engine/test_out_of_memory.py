"""Calls that run out of memory are made again in halves, and later ones are smaller from the start."""

import weakref

import numpy as np
import pytest
import torch
from fake_pipeline import FakePipeline
from fused_pipeline import FusedPipeline

from headrace.engine import Engine, EngineSettings
from headrace.engine.memory import out_of_memory
from headrace.errors import ExecutionError
from headrace.request import Request

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 17179869184 bytes."),
    MemoryError(),
]


def small(base, area, decoded=10**9, error=ERRORS[0]):
    """A pipeline with room for so many latents of network rows in a call, and so many pictures in a decoder's."""

    class Small(base):
        def __init__(self, **options):
            super().__init__(**options)
            self.refused = []

        def evaluate(self, rows):
            used = rows.sample[:, 0].numel() / rows.fusion
            if used > area:
                self.refused.append(len(rows))
                raise error
            return super().evaluate(rows)

        def decode(self, latents):
            if len(latents) > decoded:
                self.refused.append(len(latents))
                raise error
            return super().decode(latents)

    return Small()


def asked(count, **changes):
    return [
        Request(**({"prompt": "apple", "steps": 4, "solver": "ddim", "guidance_scale": 1.0} | changes), seed=seed)
        for seed in range(count)
    ]


def assert_as_if_there_were_room(requests, results, base=FakePipeline):
    for request, result in zip(requests, results, strict=True):
        assert result.error is None
        [reference] = Engine(base()).generate([request])
        assert np.abs(result.pixels.astype(int) - reference.pixels.astype(int)).max() <= 1


@pytest.mark.parametrize("error", ERRORS)
def test_the_budget_halves_until_calls_fit_and_stays_there(error):
    pipeline = small(FakePipeline, 5 * 64, error=error)
    engine = Engine(pipeline, EngineSettings(max_rows=16))
    assert engine.max_rows == 16
    requests = asked(16)
    results = engine.generate(requests)
    assert_as_if_there_were_room(requests, results)
    assert pipeline.refused == [16, 8]
    assert engine.max_rows == 4
    assert pipeline.calls == [4] * 16


def test_a_call_that_is_smaller_than_the_budget_says_what_fits():
    pipeline = small(FakePipeline, 64)
    engine = Engine(pipeline, EngineSettings(max_rows=32))
    engine.generate(asked(4))
    assert pipeline.refused == [4, 2]
    assert engine.max_rows == 1


def test_guided_rows_count_twice_and_sizes_by_their_area():
    pipeline = small(FakePipeline, 4 * 64)
    engine = Engine(pipeline, EngineSettings(max_rows=16))
    requests = asked(3, guidance_scale=3.0) + asked(2, height=32)
    results = engine.generate(requests)
    assert_as_if_there_were_room(requests, results)
    assert engine.max_rows <= 4
    assert len(pipeline.refused) <= 2


def test_who_does_not_fit_alone_fails_alone_and_costs_the_others_nothing():
    pipeline = small(FakePipeline, 4 * 64)
    engine = Engine(pipeline, EngineSettings(max_rows=4))
    small_ones, large = asked(4), asked(1, height=64, width=32)[0]
    *results, failed = engine.generate([*small_ones, large])
    assert_as_if_there_were_room(small_ones, results)
    assert isinstance(failed.error, ExecutionError)
    assert "OutOfMemoryError" in failed.error.problem
    assert engine.max_rows == 4


def test_groups_that_share_evaluations_are_cut_too():
    pipeline = small(FusedPipeline, 2 * 64)
    engine = Engine(pipeline, EngineSettings(max_rows=16))
    requests = asked(16)
    results = engine.generate(requests)
    assert_as_if_there_were_room(requests, results, base=FusedPipeline)
    assert engine.max_rows == 2


def test_other_errors_leave_the_budget_alone():
    engine = Engine(FakePipeline(), EngineSettings(max_rows=8))
    results = engine.generate([*asked(3), *asked(1, prompt="boom")])
    assert [result.error is None for result in results] == [True, True, True, False]
    assert engine.max_rows == 8


@pytest.mark.parametrize("lane", ["interleaved", "threads"])
def test_the_decoder_halves_its_batch(lane):
    pipeline = small(FakePipeline, 10**9, decoded=2)
    engine = Engine(pipeline, EngineSettings(decode_batch=8, lane=lane))
    requests = asked(8)
    for _ in range(2):
        results = engine.generate(requests)
        assert_as_if_there_were_room(requests, results)
        assert engine.decode_batch == 2
    assert pipeline.refused == [8, 4, 4]
    assert engine.max_rows == 32
    engine.close()


def test_a_picture_that_cannot_be_decoded_alone_fails():
    pipeline = small(FakePipeline, 10**9, decoded=0)
    engine = Engine(pipeline)
    [result] = engine.generate(asked(1))
    assert isinstance(result.error, ExecutionError)
    assert engine.decode_batch == 8


def test_previews_go_by_the_decoders_batch():
    pipeline = small(FakePipeline, 10**9, decoded=2)
    engine, seen = Engine(pipeline), []
    engine.on_preview = seen.append
    for request in asked(4):
        engine.enqueue(engine.prepare(request, previews=1))
    while engine.busy:
        engine.step()
    assert len(seen) == 4
    assert engine.previews_failed == 0


def test_what_a_failed_call_held_is_given_back():
    """The traceback of the error has the frames, and they the activations."""
    held = []

    class Holds(FakePipeline):
        def evaluate(self, rows):
            assert all(reference() is None for reference in held)
            if len(rows) > 1:
                activation = torch.zeros(10)
                held.append(weakref.ref(activation))
                raise torch.OutOfMemoryError("no room")
            return super().evaluate(rows)

    engine = Engine(Holds())
    assert all(result.error is None for result in engine.generate(asked(4)))
    assert len(held) == 2


def test_what_counts_as_running_out_of_memory():
    assert all(out_of_memory(error) for error in ERRORS)
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not out_of_memory(ValueError("not enough memory"))


def test_torch_itself_runs_out_of_memory_in_such_words():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 52, dtype=torch.float64)
    assert out_of_memory(raised.value)
