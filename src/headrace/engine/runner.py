"""Calls the denoiser: optional compilation, with batch sizes padded to a few buckets.

Where K rows share an evaluation, buckets count groups, and padding is whole groups.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from headrace.engine.allocator import keep_freed_memory
from headrace.engine.settings import EngineSettings
from headrace.errors import HeadraceError
from headrace.models.denoiser import Denoiser, Rows
from headrace.models.pipelines.base import Pipeline


class Runner:
    """Evaluates rows, compiled or not. Without compilation a call has exactly the rows it was given."""

    def __init__(self, pipeline: Pipeline, settings: EngineSettings) -> None:
        if settings.compile is not None and pipeline.row_cache is not None:
            raise HeadraceError(
                "compile and a block cache were both asked for, and compiled calls cannot skip blocks for single rows",
                "Leave one of them out",
            )
        self._denoise: Denoiser = pipeline.denoise
        self._buckets = settings.buckets
        self._padded = settings.compile is not None
        self._graphs = settings.compile in ("reduce-overhead", "max-autotune") and pipeline.device.type == "cuda"
        if settings.keep_freed_memory and pipeline.device.type == "cpu":
            keep_freed_memory()
        if settings.channels_last:
            pipeline.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if settings.compile is not None:
            # Compiles the network in place in the module tree: its weights and its callers stay the same.
            pipeline.network.compile(mode=settings.compile, dynamic=False)

    def __call__(self, rows: Rows) -> torch.Tensor:
        """The model outputs, [N, C, h, w] float32."""
        wanted = len(rows)
        if self._padded:
            rows = _pad(rows, self._bucket(wanted // rows.fusion) * rows.fusion)
        if self._graphs:
            # CUDA graphs reuse their output buffers: tell them that the last call's outputs were consumed.
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        return self._denoise(rows)[:wanted].float()

    def _bucket(self, rows: int) -> int:
        return next((size for size in self._buckets if size >= rows), rows)


def _pad(rows: Rows, size: int) -> Rows:
    """Repeats the last group up to `size` rows; its copies' outputs are thrown away."""
    fusion = rows.fusion
    copies = (size - len(rows)) // fusion
    if copies <= 0:
        return rows

    def padded(tensor: torch.Tensor) -> torch.Tensor:
        return torch.cat([tensor, tensor[-fusion:].repeat(copies, *[1] * (tensor.dim() - 1))])

    def padded_host(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.concatenate([array, np.tile(array[-fusion:], (copies, *[1] * (array.ndim - 1)))])

    return replace(
        rows,
        sample=padded(rows.sample),
        timestep=padded(rows.timestep),
        conditioning={name: padded(tensor) for name, tensor in rows.conditioning.items()},
        branches=padded_host(rows.branches),
        columns={name: padded_host(column) for name, column in rows.columns.items()},
    )
