"""A U-Net without text whose body runs once for K images (FB-UNet, FuseBatch section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import UNet2DModel
from torch import nn
from typing_extensions import override

from headrace.errors import ModelError
from headrace.techniques.fusebatch.fused_network import FusedNetwork
from headrace.techniques.fusebatch.fusion import fused_channels, group_times


class FusedUNet(FusedNetwork):
    """A fused `UNet2DModel`: see `FusedNetwork`.

    Class labels: the body has one table of embeddings for each index, and the K embeddings of a group are summed and
    added to the time embedding, as one would be.
    """

    def __init__(self, unet: Mapping[str, Any], factor: int, kernel_size: int = 3) -> None:
        """`unet` is the configuration of the `UNet2DModel` of one image.

        Raises `ModelError` for a U-Net with image skips or class embeddings that are no table.
        """
        channels = unet.get("in_channels", 3)
        body = UNet2DModel(**{**unet, "in_channels": fused_channels(channels)})
        if body.config.class_embed_type is not None or "Skip" in str(body.config.down_block_types):
            raise ModelError(
                "a UNet2DModel with class_embed_type or skips of the image cannot be fused: they are of one image",
                "Use num_class_embeds and blocks without skips",
            )
        super().__init__(body, channels, factor, kernel_size)
        if body.class_embedding is not None:
            body.class_embedding = IndexedEmbedding(body.class_embedding, factor)

    @override
    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor | float, class_labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """[B*K, C, h, w] -> [B*K, C_out, h, w]; `timestep` is a number or one a row: a group's first is taken.

        `class_labels` is [B*K]. Raises `ValueError` where the rows are not a multiple of K.
        """
        fused = self.fusion(sample)
        times = group_times(timestep, sample, self.factor)
        if class_labels is not None:
            class_labels = class_labels.reshape(-1, self.factor)
        features = self.body(fused, times, class_labels, return_dict=False)[0]
        divided = self.body.config.time_embedding_type == "fourier"
        if divided:  # the network divides what it returns by its timesteps: undone before the head, done behind it
            features = features * times[:, None, None, None]
        output = self.images(features)
        return (output / times[:, None, None, None, None] if divided else output).flatten(0, 1)

    @override
    def initialise_from(self, vanilla: UNet2DModel) -> None:
        """As `FusedNetwork` does; each index gets a copy of the class embeddings."""
        super().initialise_from(vanilla)
        if self.body.class_embedding is not None:
            self.body.class_embedding.copy_from(vanilla.class_embedding)


class IndexedEmbedding(nn.Module):
    """Labels [B, K] -> the sum over j of `table_j(label_j)`, [B, D]: as fusion tells images apart by their index."""

    def __init__(self, embedding: nn.Embedding, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.labels = embedding.num_embeddings
        self.tables = nn.Embedding(factor * self.labels, embedding.embedding_dim)

    @override
    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        offsets = torch.arange(self.factor, device=labels.device) * self.labels
        return self.tables(labels + offsets).sum(1)

    @torch.no_grad()
    def copy_from(self, embedding: nn.Embedding) -> None:
        """Every index starts with 1/K of the table, so that K images of one class are told what one was."""
        self.tables.weight.copy_(embedding.weight.repeat(self.factor, 1) / self.factor)
