"""The denoiser protocol: rows in, outputs out.

A denoiser evaluates each row by itself, but for one: where the rows' `fusion` is K > 1 (FuseBatch), K rows that stand
together are a group, which the network evaluates at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from headrace.models.slot_cache import SlotCache

CONDITIONAL = 0
UNCONDITIONAL = 1


@dataclass(frozen=True)
class Rows:
    """What one network call evaluates: N rows that share a batch key.

    With K = `fusion` > 1, N is a multiple of K; the K rows of a group are of one guidance branch and have one timestep,
    and some may be copies that make a short group full, whose outputs nobody reads.

    Attributes:
        sample: [N, C, h, w] network input, already multiplied by the plan's `input_scale`, in the network's dtype.
        timestep: [N] float32, what the network is told.
        conditioning: name -> [N, ...] tensors, as the pipeline's `encode` made them.
        branches: [N] int8 on the host: `CONDITIONAL` or `UNCONDITIONAL` (guidance evaluates a row twice).
        columns: name -> [N, ...] host array of the decision columns that a denoiser may read (`stage`, `compute`, ...).
        caches: of each row's request, what blocks keep for its later rows; empty where nothing is cached.
    """

    sample: torch.Tensor
    timestep: torch.Tensor
    conditioning: Mapping[str, torch.Tensor]
    branches: npt.NDArray[np.int8]
    columns: Mapping[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    caches: Sequence[SlotCache] = ()

    def __len__(self) -> int:
        return self.sample.shape[0]

    @property
    def fusion(self) -> int:
        """K, the rows that share an evaluation; 1 where the denoiser reads no such column."""
        fusion = self.columns.get("fusion")
        return 1 if fusion is None else int(fusion[0])


class Denoiser(Protocol):
    """A network of any family behind one call."""

    def __call__(self, rows: Rows) -> torch.Tensor:
        """The model output of each row, [N, C, h, w], in its own prediction type, without a learned variance."""
        ...
