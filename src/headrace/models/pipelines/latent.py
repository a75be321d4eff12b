"""Latent diffusion without text: `LDMPipeline` (unconditional) and `DiTPipeline` (class-conditional)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from headrace.models.conditioning import Conditioning
from headrace.models.denoiser import Rows
from headrace.models.pipelines.base import LatentShape, Pipeline, require_class, to_pixels
from headrace.models.pipelines.pixel import downsampling, encode_class, square
from headrace.request import Request


class LatentDiffusionPipeline(Pipeline):
    """A `UNet2DModel` on the latents of a VQ autoencoder (Rombach et al. 2022)."""

    family = "latent diffusion"

    @property
    def network(self) -> torch.nn.Module:
        return self.components.unet

    @property
    def _factor(self) -> int:
        return downsampling(self.components.vqvae)

    @property
    def default_size(self) -> tuple[int, int]:
        height, width = square(self.components.unet.config.sample_size)
        return height * self._factor, width * self._factor

    @property
    def size_multiple(self) -> int:
        return self._factor * downsampling(self.components.unet)

    def latent_shape(self, height: int, width: int) -> LatentShape:
        return self.components.unet.config.in_channels, height // self._factor, width // self._factor

    def encode(self, requests: Sequence[Request]) -> list[Conditioning]:
        return [Conditioning() for _ in requests]

    def denoise(self, rows: Rows) -> torch.Tensor:
        return self.components.unet(rows.sample, rows.timestep, return_dict=False)[0]

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        decoder = self.components.vqvae
        scaled = latents.to(decoder.dtype) / decoder.config.scaling_factor
        return to_pixels(decoder.decode(scaled, return_dict=False)[0])


class DiTPipeline(Pipeline):
    """A class-conditional transformer on the latents of an autoencoder (Peebles and Xie 2023)."""

    family = "DiT"
    default_guidance = 4.0

    @property
    def network(self) -> torch.nn.Module:
        return self.components.transformer

    @property
    def _classes(self) -> int:
        return int(self.components.transformer.config.num_embeds_ada_norm)

    @property
    def _factor(self) -> int:
        return downsampling(self.components.vae)

    @property
    def default_size(self) -> tuple[int, int]:
        height, width = square(self.components.transformer.config.sample_size)
        return height * self._factor, width * self._factor

    @property
    def size_multiple(self) -> int:
        return self._factor * int(self.components.transformer.config.patch_size)

    def latent_shape(self, height: int, width: int) -> LatentShape:
        return self.components.transformer.config.in_channels, height // self._factor, width // self._factor

    def check_conditioning(self, request: Request) -> None:
        require_class(request, self.name, self._classes)

    def encode(self, requests: Sequence[Request]) -> list[Conditioning]:
        # The null class of classifier-free guidance has the index behind the last real one.
        return [encode_class(request.class_label, self.device, null=self._classes) for request in requests]

    def denoise(self, rows: Rows) -> torch.Tensor:
        transformer = self.components.transformer
        output = transformer(
            rows.sample, timestep=rows.timestep, class_labels=rows.conditioning["class_labels"], return_dict=False
        )[0]
        return output[:, : transformer.config.in_channels]

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        decoder = self.components.vae
        scaled = latents.to(decoder.dtype) / decoder.config.scaling_factor
        return to_pixels(decoder.decode(scaled, return_dict=False)[0])
