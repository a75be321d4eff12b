"""Where the time of a fused evaluation goes: what keeps K = 4 from four times the speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from headrace.models.pipelines.base import Pipeline

FUSION, BODY, HEAD = "fusion", "body", "unfusion and head"


@torch.inference_mode()
def measure_parts(pipeline: Pipeline, factor: int, images: int, repeats: int) -> dict[str, float]:
    """Share of each part in an evaluation of so many images, K = `factor` in a group; the least of some turns."""
    fused: Any = pipeline.network.networks[str(factor)]  # type: ignore[index,union-attr]
    size = pipeline.latent_shape(*pipeline.default_size)
    sample = torch.randn(images, *size, device=pipeline.device, dtype=pipeline.dtype)
    sample = sample.contiguous(memory_format=torch.channels_last)
    times = torch.full((images // factor,), 500, device=pipeline.device)
    together = fused.fusion(sample)
    features = fused.body(together, times, return_dict=False)[0]
    parts: dict[str, Callable[[], object]] = {
        FUSION: lambda: fused.fusion(sample),
        BODY: lambda: fused.body(together, times),
        HEAD: lambda: [fused.head(one) for one in fused.unfusion.each(features)],
    }
    least = dict.fromkeys(parts, float("inf"))
    for _ in range(repeats):
        for name, part in parts.items():
            least[name] = min(least[name], _seconds(part, pipeline.device))
    total = sum(least.values())
    return {name: seconds / total for name, seconds in least.items()}


def _seconds(part: Callable[[], object], device: torch.device) -> float:
    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    wait()
    start = time.perf_counter()
    part()
    wait()
    return time.perf_counter() - start
