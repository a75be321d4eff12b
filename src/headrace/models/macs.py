"""Multiply-accumulate operations, counted while something runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from headrace.models.branches import modules_of
from headrace.models.denoiser import CONDITIONAL, Rows
from headrace.models.pipelines.base import Pipeline
from headrace.request import Request

_INPUTS = ("query", "key", "value")


class Macs(NamedTuple):
    """Multiply-accumulate operations: all, and those of attention's products of queries, keys and values."""

    total: int
    attention: int


def count_macs(run: Callable[[], object]) -> Macs:
    """Of `run`: matrix products, convolutions and attention; half of what torch's counter calls FLOPs.

    Attention is written out as two products while counting: torch has no formula for its fused kernel on a CPU.
    """
    counter = FlopCounterMode(display=False)
    attention = _Attention()
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), counter, attention:
        run()
    return Macs(int(counter.get_total_flops()) // 2, attention.macs)


class _Attention(TorchFunctionMode):
    """Adds up the operations of the calls of torch's attention: queries x keys x (their width + that of the values)."""

    macs = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is scaled_dot_product_attention:
            given = dict(zip(_INPUTS, args, strict=False)) | (kwargs or {})
            query, key, value = (given[name] for name in _INPUTS)
            self.macs += query.numel() // query.shape[-1] * key.shape[-2] * (key.shape[-1] + value.shape[-1])
        return func(*args, **(kwargs or {}))


def block_macs(pipeline: Pipeline, request: Request, blocks: Sequence[str]) -> tuple[int, list[int]]:
    """Of one network evaluation of the request, one guidance branch: the whole network's, and each block's.

    `blocks` are paths as `headrace.models.blocks.find_blocks` returns them, of a network without a cache. Those of a
    block inside another count in both. Raises as `Pipeline.encode` does.
    """
    rows = one_row(pipeline, request)
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), counter:
        pipeline.denoise(rows)
    counts = counter.get_flop_counts()
    root = type(pipeline.network).__name__

    def macs(path: str) -> int:
        return sum(counts[f"{root}.{path}"].values()) // 2 if f"{root}.{path}" in counts else 0

    parts = [modules_of(pipeline.network, block) for block in blocks]
    return int(counter.get_total_flops()) // 2, [sum(map(macs, paths)) for paths in parts]


def one_row(pipeline: Pipeline, request: Request, timestep: float = 1.0) -> Rows:
    """A row of zeros at the request's size, conditional branch: what the network's work is counted on."""
    shape = pipeline.latent_shape(*pipeline.size(request))
    [conditioning] = pipeline.encode([request])
    return Rows(
        sample=torch.zeros((1, *shape), device=pipeline.device, dtype=pipeline.dtype),
        timestep=torch.tensor([timestep], device=pipeline.device),
        conditioning={name: tensor[None] for name, tensor in conditioning.positive.items()},
        branches=np.array([CONDITIONAL], dtype=np.int8),
    )
