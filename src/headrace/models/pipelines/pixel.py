"""Pixel-space diffusion: `DDPMPipeline` and `DDIMPipeline`, unconditional or with class embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from typing_extensions import override

from headrace.errors import UnsupportedModelError
from headrace.models.conditioning import Conditioning
from headrace.models.denoiser import Rows
from headrace.models.pipelines.base import LatentShape, Pipeline, require_class, require_settings, to_pixels
from headrace.request import Request


class PixelPipeline(Pipeline):
    """A `UNet2DModel` that denoises pixels (Ho et al. 2020). The latents are the picture itself, in [-1, 1].

    Class-conditional where the network's configuration has `num_class_embeds`.
    """

    family = "pixel"
    networks = frozenset({"UNet2DModel"})

    @property
    @override
    def network(self) -> torch.nn.Module:
        return self.components.unet

    @property
    @override
    def default_size(self) -> tuple[int, int]:
        return square(self.components.unet.config.sample_size)

    @property
    @override
    def size_multiple(self) -> int:
        return downsampling(self.components.unet)

    @override
    def latent_shape(self, height: int, width: int) -> LatentShape:
        return self.components.unet.config.in_channels, height, width

    @override
    def check_model(self) -> None:
        require_settings(self.name, self.network, has=("sample_size",), lacks=("class_embed_type",))
        require_time_embedding(self.name, self.network)

    @override
    def check_conditioning(self, request: Request) -> None:
        classes = self.components.unet.config.num_class_embeds
        if classes is None:
            super().check_conditioning(request)
        else:
            require_class(request, self.name, classes)

    @override
    def encode(self, requests: Sequence[Request]) -> list[Conditioning]:
        return [encode_class(request.class_label, self.device) for request in requests]

    @override
    def denoise(self, rows: Rows) -> torch.Tensor:
        labels = rows.conditioning.get("class_labels")
        output = self.components.unet(rows.sample, rows.timestep, class_labels=labels, return_dict=False)[0]
        return output[:, : rows.sample.shape[1]]

    @override
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return to_pixels(latents)


def encode_class(label: int | None, device: torch.device, null: int | None = None) -> Conditioning:
    """A class label as conditioning; `null` is the label of the unconditional branch, where the model has one."""
    if label is None:
        return Conditioning()
    positive = {"class_labels": torch.tensor(label, device=device)}
    return Conditioning(positive, None if null is None else {"class_labels": torch.tensor(null, device=device)})


def require_time_embedding(name: str, unet: Any) -> None:
    """Raises `UnsupportedModelError` where timesteps are looked up in a table: plans may have fractional ones."""
    if unet.config.time_embedding_type not in ("positional", "fourier"):
        raise UnsupportedModelError(
            f"{name}: the UNet2DModel has time_embedding_type = {unet.config.time_embedding_type!r}",
            "Use a network with positional or fourier time embeddings",
        )


def square(sample_size: Any) -> tuple[int, int]:
    """A configuration's `sample_size`, an int or a pair, as (height, width)."""
    if isinstance(sample_size, int):
        return sample_size, sample_size
    height, width = sample_size
    return height, width


def downsampling(network: Any) -> int:
    """By how much a U-Net shrinks its input inside: its sizes must be multiples of it."""
    return int(2 ** (len(network.config.block_out_channels) - 1))
