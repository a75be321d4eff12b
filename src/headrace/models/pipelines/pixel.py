"""Pixel-space diffusion: `DDPMPipeline` and `DDIMPipeline`, unconditional or with class embeddings."""

from __future__ import annotations

from typing import Any

import torch
from typing_extensions import override

from headrace.models.pipelines.base import LatentShape, to_pixels
from headrace.models.pipelines.unet2d import UNet2DPipeline


class PixelPipeline(UNet2DPipeline):
    """A `UNet2DModel` that denoises pixels (Ho et al. 2020). The latents are the picture itself, in [-1, 1]."""

    family = "pixel"

    @property
    @override
    def default_size(self) -> tuple[int, int]:
        return square(self.components.unet.config.sample_size)

    @property
    @override
    def size_multiple(self) -> int:
        return downsampling(self.components.unet)

    @property
    @override
    def latent_multiple(self) -> int:
        return self.size_multiple

    @override
    def latent_shape(self, height: int, width: int) -> LatentShape:
        return self.components.unet.config.in_channels, height, width

    @override
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return to_pixels(latents)


def square(sample_size: Any) -> tuple[int, int]:
    """A configuration's `sample_size`, an int or a pair, as (height, width)."""
    if isinstance(sample_size, int):
        return sample_size, sample_size
    height, width = sample_size
    return height, width


def downsampling(network: Any) -> int:
    """By how much a U-Net shrinks its input inside, or an autoencoder: sizes must be multiples of it."""
    return int(2 ** (len(network.config.block_out_channels) - 1))
