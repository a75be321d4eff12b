"""The shared half of a multistage U-Net: everything of a `UNet2DModel` before its up blocks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from diffusers import UNet2DModel
from torch import nn
from typing_extensions import override


class Features(NamedTuple):
    """What every decoder is given of N rows.

    Attributes:
        hidden: [N, C, h, w] behind the mid block.
        skips: [N, c, h, w] each, of `conv_in` and every ResNet block and downsampling, in that order.
        embedding: [N, D], of timesteps and classes.
        timestep: [N].
    """

    hidden: torch.Tensor
    skips: tuple[torch.Tensor, ...]
    embedding: torch.Tensor
    timestep: torch.Tensor

    def between(self, begin: int, end: int) -> Features:
        """The features of these rows, without a copy."""
        rows = slice(begin, end)
        skips = tuple(skip[rows] for skip in self.skips)
        return Features(self.hidden[rows], skips, self.embedding[rows], self.timestep[rows])


class Encoder(nn.Module):
    """`conv_in`, time and class embeddings, down blocks and the mid block, taken from a `UNet2DModel`.

    The mid block is shared because it is in the paper: 43M parameters and 5.75 GMAC of table 5, 108M and 22.71 of
    table 6 are those of this half with its mid block.
    """

    def __init__(self, unet: UNet2DModel) -> None:
        super().__init__()
        self.centred = bool(unet.config.center_input_sample)
        self.conv_in = unet.conv_in
        self.time_proj = unet.time_proj
        self.time_embedding = unet.time_embedding
        self.class_embedding = unet.class_embedding
        self.down_blocks = unet.down_blocks
        self.mid_block = unet.mid_block

    @override
    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor, class_labels: torch.Tensor | None = None
    ) -> Features:
        """`sample` [N, C, h, w], `timestep` [N], `class_labels` [N] where there are classes: `ValueError` if not."""
        embedding = self._embedding(timestep, class_labels)
        hidden = self.conv_in(2 * sample - 1.0 if self.centred else sample)
        skips: tuple[torch.Tensor, ...] = (hidden,)
        for block in self.down_blocks:
            hidden, passed = block(hidden_states=hidden, temb=embedding)
            skips += tuple(passed)
        if self.mid_block is not None:
            hidden = self.mid_block(hidden, embedding)
        return Features(hidden, skips, embedding, timestep)

    def _embedding(self, timestep: torch.Tensor, class_labels: torch.Tensor | None) -> torch.Tensor:
        if (self.class_embedding is None) != (class_labels is None):
            needed = "no classes" if self.class_embedding is None else "class_labels for its classes"
            raise ValueError(f"the network takes {needed}")
        dtype = self.conv_in.weight.dtype
        embedding = self.time_embedding(self.time_proj(timestep).to(dtype))  # sines are float32 whatever the weights
        if self.class_embedding is not None:
            embedding = embedding + self.class_embedding(class_labels).to(dtype)
        return embedding
