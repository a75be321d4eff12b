"""Which guidance branch's cross-attention is best reused (supplement, Fig. 7): pictures against plain sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
import torch

from headrace.benchmarks._block_cache.quality import Pixels
from headrace.engine import Engine, EngineSettings
from headrace.evaluation.metrics.paired import psnr
from headrace.models.pipelines.base import Pipeline
from headrace.models.row_call import Source
from headrace.request import Request
from headrace.techniques.postdiff.network import enable

BATCH = 16


def measure_sources(pipeline: Pipeline, requests: Sequence[Request]) -> dict[Source, float]:
    """By branch: PSNR in dB over all pictures, cross-attention reused after m = 0.75, everything else plain."""
    plain = _pictures(Engine(pipeline, EngineSettings(slots=BATCH)), requests)
    found: dict[Source, float] = {}
    for source in get_args(Source):
        decide = enable(pipeline, interval=1, source=source)
        try:
            made = _pictures(Engine(pipeline, EngineSettings(slots=BATCH), decide=decide), requests)
        finally:
            assert pipeline.row_cache is not None
            pipeline.row_cache.remove()
            pipeline.row_cache = None
        found[source] = round(float(psnr(_row(made), _row(plain))[0].clamp(max=100.0)), 2)
    return found


def _pictures(engine: Engine, requests: Sequence[Request]) -> Pixels:
    return np.stack([np.asarray(result.image.convert("RGB")) for result in engine.generate(requests)])


def _row(pixels: Pixels) -> torch.Tensor:
    """All pictures as one, [1, 3, N * H, W], so that the mean is over the squared errors of all."""
    return torch.from_numpy(pixels).permute(3, 0, 1, 2).flatten(1, 2)[None].contiguous()
