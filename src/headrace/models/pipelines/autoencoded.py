"""What the families on the latents of an autoencoder share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from typing_extensions import override

from headrace.models.pipelines.base import LatentShape, Pipeline, to_pixels
from headrace.models.pipelines.pixel import downsampling, square


class AutoencodedPipeline(Pipeline):
    """A network that denoises what an autoencoder makes of pictures (Rombach et al. 2022)."""

    @property
    @abstractmethod
    def autoencoder(self) -> Any:
        """The `AutoencoderKL` or `VQModel` whose decoder makes the pictures."""

    @property
    def factor(self) -> int:
        """Pixels to a latent's edge."""
        return downsampling(self.autoencoder)

    @property
    @override
    def default_size(self) -> tuple[int, int]:
        config: Any = self.network.config
        height, width = square(config.sample_size)
        return height * self.factor, width * self.factor

    @override
    def latent_shape(self, height: int, width: int) -> LatentShape:
        config: Any = self.network.config
        return int(config.in_channels), height // self.factor, width // self.factor

    @override
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        decoder = self.autoencoder
        return to_pixels(decoder.decode(self.unscaled(latents).to(decoder.dtype), return_dict=False)[0])

    def unscaled(self, latents: torch.Tensor) -> torch.Tensor:
        """The decoder's input: what the encoder's output was multiplied by for training, undone."""
        return latents / self.autoencoder.config.scaling_factor
