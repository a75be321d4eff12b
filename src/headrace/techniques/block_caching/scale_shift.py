"""Scale and shift of reused values by timestep (Wimbauer et al. 2024, section 3.4).

Wherever a value is reused, `residual + C` becomes `residual + scale * C + shift`, with one scale and one shift for each
channel, predicted from the timestep by a linear layer a block. The network's own weights stay as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import nn

from headrace.models.blocks import channels
from headrace.models.cached_block import CachedBlock
from headrace.models.row_call import ScaleShift as Pair

Timesteps = npt.NDArray[np.float64]

EMBEDDING_WIDTH = 256
_MOST_FOLDED = 1024  # timesteps that a table remembers besides the prepared: 100 MB in Stable Diffusion 1.5, float32


class ScaleShift(nn.Module):
    """A linear layer from the timestep embedding to scale and shift, for each of B blocks. The identity at first.

    The embedding is diffusers' sinusoidal one (Vaswani et al. 2017), of a fixed width and a function of the timestep
    alone. A network's own embedding goes through learned layers, and in some families takes up the class, the text or
    the size as well: then no table by timestep could hold what follows from it, and each family would need its own.

    Obeys `headrace.models.row_call.Adjustment`, with gradients: training calls it, inference a `FoldedScaleShift`.
    """

    identity: torch.Tensor

    def __init__(self, channels: Sequence[int], width: int = EMBEDDING_WIDTH) -> None:
        """`channels`: [B] channels of what each block adds; `width`: of the embedding."""
        super().__init__()
        self.channels = tuple(channels)
        self.width = width
        self.layers = nn.ModuleList([nn.Linear(width, 2 * count) for count in self.channels])
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        identity = torch.cat([torch.tensor([1.0, 0.0]).repeat_interleave(count) for count in self.channels])
        self.register_buffer("identity", identity, persistent=False)

    def forward(self, timesteps: Timesteps) -> torch.Tensor:
        """[N, 2 sum(C)] for timesteps [N]: of one block after another the scale, then the shift, of its channels."""
        told = torch.from_numpy(np.array(timesteps)).to(self.identity.device, torch.float32)
        embedding = get_timestep_embedding(told, self.width, flip_sin_to_cos=True, downscale_freq_shift=0)
        return self.identity + torch.cat([layer(embedding) for layer in self.layers], dim=1)

    def at(self, timesteps: Timesteps) -> Sequence[Pair]:
        """For timesteps [N], the scale [N, C] and shift [N, C] of every block."""
        return pairs(self(timesteps), self.channels)

    @property
    def digest(self) -> str:
        """A digest of all layers."""
        hasher = hashlib.sha256(f"{self.width} {self.channels}".encode())
        for parameter in self.parameters():
            hasher.update(parameter.detach().float().cpu().numpy().tobytes())
        return hasher.hexdigest()[:16]


class FoldedScaleShift:
    """The same as a table with a row for each distinct timestep, so that a network call only gathers rows of it.

    Timesteps that were not given beforehand, those of other step counts, get their row on first use. Timesteps are
    known on the host, so nothing waits for the device.
    """

    def __init__(self, source: ScaleShift, timesteps: Timesteps, device: torch.device, dtype: torch.dtype) -> None:
        """`timesteps`: of the rows to come, in any order; `device` and `dtype` are those of the network."""
        self._source, self._device, self._dtype = source.to(device), device, dtype
        self._prepared = np.unique(timesteps)
        self._forget()

    def _forget(self) -> None:
        self._places = {value: place for place, value in enumerate(self._prepared.tolist())}
        self._table = self._folded(self._prepared)

    @torch.no_grad()
    def _folded(self, timesteps: Timesteps) -> torch.Tensor:
        return self._source(timesteps).to(self._dtype)

    def at(self, timesteps: Timesteps) -> Sequence[Pair]:
        """For timesteps [N], the scale [N, C] and shift [N, C] of every block."""
        told = timesteps.tolist()
        if not self._places.keys() >= set(told):
            self._add(set(told))
        places = torch.tensor([self._places[value] for value in told])
        if self._device.type == "cuda":
            places = places.pin_memory()
        return pairs(self._table.index_select(0, places.to(self._device, non_blocking=True)), self._source.channels)

    def _add(self, timesteps: set[float]) -> None:
        """Rows for the new ones of these timesteps; where they become too many, those not prepared are forgotten."""
        if len(self._places) + len(timesteps) > len(self._prepared) + _MOST_FOLDED:
            self._forget()
        new = sorted(timesteps - self._places.keys())
        if new:
            self._places |= {value: len(self._places) + number for number, value in enumerate(new)}
            self._table = torch.cat([self._table, self._folded(np.array(new))])


def pairs(rows: torch.Tensor, channels: Sequence[int]) -> list[Pair]:
    """Rows of a table [N, 2 sum(C)] as the scale [N, C] and shift [N, C] of each block."""
    parts = rows.split([count for count in channels for _ in range(2)], dim=1)
    return list(zip(parts[::2], parts[1::2], strict=True))


def block_channels(network: Any, blocks: Sequence[str]) -> tuple[int, ...]:
    """[B] channels of what each block adds; `network` may have them cached."""
    found = [network.get_submodule(path) for path in blocks]
    return tuple(channels(one.block if isinstance(one, CachedBlock) else one) for one in found)
