import shutil

import numpy as np
import pytest
import torch
from fake_pipeline import FakePipeline

from headrace.engine.runner import Runner
from headrace.engine.settings import EngineSettings
from headrace.models.denoiser import Rows


class ConvolutionPipeline(FakePipeline):
    """A fake family whose network is one convolution, so that compiling it takes seconds."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self._module = torch.nn.Conv2d(3, 3, 3, padding=1)
        self.sizes = []

    def evaluate(self, rows):
        self.sizes.append((len(rows), len(rows.branches), len(rows.columns["stage"])))
        return self._module(rows.sample) * rows.conditioning["length"][:, None, None, None]


def some_rows(count):
    return Rows(
        sample=torch.randn(count, 3, 8, 8),
        timestep=torch.arange(count).float(),
        conditioning={"length": torch.arange(count).float() + 1},
        branches=np.zeros(count, np.int8),
        columns={"stage": np.arange(count)},
    )


def test_without_compilation_a_call_has_exactly_its_rows():
    pipeline = ConvolutionPipeline()
    output = Runner(pipeline, EngineSettings())(some_rows(5))
    assert pipeline.sizes == [(5, 5, 5)]
    assert output.shape == (5, 3, 8, 8)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs a C++ compiler")
def test_compiled_calls_are_padded_to_buckets_and_give_the_same_outputs():
    rows = some_rows(5)
    with torch.inference_mode():
        expected = Runner(ConvolutionPipeline(), EngineSettings())(rows)
        pipeline = ConvolutionPipeline()
        runner = Runner(pipeline, EngineSettings(compile="default", buckets=(2, 8)))
        outputs = runner(rows)
    assert pipeline.sizes == [(8, 8, 8)]
    torch.testing.assert_close(outputs, expected)


def test_calls_larger_than_every_bucket_are_not_cut():
    runner = Runner(ConvolutionPipeline(), EngineSettings(buckets=(2, 4)))
    assert runner(some_rows(7)).shape[0] == 7


def test_channels_last_changes_the_layout_and_not_the_outputs():
    rows = some_rows(4)
    plain = Runner(ConvolutionPipeline(), EngineSettings())(rows)
    pipeline = ConvolutionPipeline()
    output = Runner(pipeline, EngineSettings(channels_last=True))(rows)
    assert pipeline.network.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(output, plain)
