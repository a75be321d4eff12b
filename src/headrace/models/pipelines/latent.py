"""Latent diffusion without text: `LDMPipeline` (unconditional or with classes) and `DiTPipeline` (with classes)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from typing_extensions import override

from headrace.errors import RequestError
from headrace.models.conditioning import Conditioning
from headrace.models.denoiser import Rows
from headrace.models.pipelines.autoencoded import AutoencodedPipeline
from headrace.models.pipelines.base import require_class, require_settings
from headrace.models.pipelines.pixel import downsampling
from headrace.models.pipelines.unet2d import UNet2DPipeline, encode_class
from headrace.request import Request


class LatentDiffusionPipeline(AutoencodedPipeline, UNet2DPipeline):
    """A `UNet2DModel` on the latents of a VQ or KL autoencoder (Rombach et al. 2022)."""

    family = "latent diffusion"

    @property
    @override
    def autoencoder(self) -> Any:
        return self.components.vqvae

    @property
    @override
    def size_multiple(self) -> int:
        return self.factor * self.latent_multiple

    @property
    @override
    def latent_multiple(self) -> int:
        return downsampling(self.components.unet)

    @override
    def check_model(self) -> None:
        vqvae = self.components.vqvae
        channels = vqvae.config.get("vq_embed_dim") or vqvae.config.latent_channels
        require_settings(self.name, self.network, equal={"in_channels": channels})
        super().check_model()


class DiTPipeline(AutoencodedPipeline):
    """A class-conditional transformer on the latents of an autoencoder (Peebles and Xie 2023)."""

    family = "DiT"
    networks = frozenset({"DiTTransformer2DModel", "Transformer2DModel"})
    default_guidance = 4.0

    @property
    @override
    def network(self) -> torch.nn.Module:
        return self.components.transformer

    @property
    def _classes(self) -> int:
        return int(self.components.transformer.config.num_embeds_ada_norm)

    @property
    @override
    def autoencoder(self) -> Any:
        return self.components.vae

    @property
    @override
    def size_multiple(self) -> int:
        return self.factor * self.latent_multiple

    @property
    @override
    def latent_multiple(self) -> int:
        return int(self.components.transformer.config.patch_size)

    @override
    def check_model(self) -> None:
        channels = self.components.vae.config.latent_channels
        require_settings(
            self.name, self.network, has=("sample_size", "num_embeds_ada_norm"), equal={"in_channels": channels}
        )

    @override
    def check_conditioning(self, request: Request) -> None:
        require_class(request, self.name, self._classes)

    @override
    def check(self, request: Request) -> None:
        super().check(request)
        height, width = self.size(request)
        if height != width:
            # The network puts its patches back together as a square of side sqrt(number of patches).
            raise RequestError(
                "height" if request.height is not None else "width",
                f"height {height} and width {width} differ, and {self.name} is a DiT, which makes square pictures only",
                f"Use {height} x {height} or {width} x {width}",
            )

    @override
    def encode(self, requests: Sequence[Request]) -> list[Conditioning]:
        # The null class of classifier-free guidance has the index behind the last real one.
        return [encode_class(request.class_label, self.device, null=self._classes) for request in requests]

    @override
    def evaluate(self, rows: Rows) -> torch.Tensor:
        transformer = self.components.transformer
        output = transformer(
            rows.sample, timestep=rows.timestep, class_labels=rows.conditioning["class_labels"], return_dict=False
        )[0]
        return output[:, : transformer.config.in_channels]
