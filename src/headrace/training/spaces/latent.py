"""The space of latents: what a frozen autoencoder makes of the pictures (arXiv:2112.10752)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from typing_extensions import override

from headrace.errors import RecipeError
from headrace.models.pipelines.pixel import downsampling
from headrace.training.objectives.objective import Batch
from headrace.training.spaces.autoencoders import encode_moments, pictures_of
from headrace.training.spaces.space import Shape, Space


class _Moments(NamedTuple):
    """Scaled mean and deviation [N, C, h, w] of the latents; no deviation where the encoder has none."""

    mean: torch.Tensor
    deviation: torch.Tensor | None


class LatentSpace(Space):
    """Latents drawn from the encoder's posterior (`AutoencoderKL`), or the encoder's output (`VQModel`).

    They are multiplied by the autoencoder's `scaling_factor`, by which every pipeline divides before it decodes. The
    whole data set is encoded once, on the first batch, and its mirror images too where `flip` is set: an encoder does
    not commute with mirroring. Kept on the autoencoder's device.

    Raises `RecipeError` for pictures that the autoencoder cannot halve as often as it must, and for an autoencoder with
    several pictures a latent (`FusedLatentSpace` is for those).
    """

    def __init__(self, autoencoder: Any, images: torch.Tensor, flip: bool) -> None:
        super().__init__(images, flip)
        self.autoencoder = autoencoder.requires_grad_(False).eval()
        self._encoded: tuple[_Moments, ...] | None = None
        side, factor = images.shape[-1], downsampling(autoencoder)
        if side % factor:
            raise RecipeError(
                f"pictures of {side} pixels do not fit an autoencoder that divides by {factor}",
                f"Set data.size to a multiple of {factor}",
            )
        pictures = pictures_of(autoencoder)
        if pictures != self.group:
            raise RecipeError(
                f"a latent of the autoencoder is of {pictures} pictures, and one of {self.group} is needed",
                "Leave fusion out of the autoencoder's phase",
            )

    @property
    @override
    def shape(self) -> Shape:
        config = self.autoencoder.config
        channels = config.get("vq_embed_dim") or config.latent_channels
        return Shape(int(channels), self.images.shape[-1] // downsampling(self.autoencoder))

    @override
    def train(self, mode: bool = True) -> LatentSpace:
        super().train(mode)
        self.autoencoder.eval()  # frozen: no dropout, whatever the objective does
        return self

    @override
    def over(self, images: torch.Tensor) -> LatentSpace:
        return LatentSpace(self.autoencoder, images, flip=False)

    @override
    def batch(self, where: torch.Tensor, device: torch.device) -> Batch:
        if self._encoded is None:
            self._encoded = tuple(self._encode(mirrored) for mirrored in ((False, True) if self.flip else (False,)))
        batch: Batch = {}
        for name, moments in zip(("", "mirrored_"), self._encoded, strict=False):
            where = where.to(moments.mean.device)
            batch[f"{name}mean"] = moments.mean[where].to(device)
            if moments.deviation is not None:
                batch[f"{name}deviation"] = moments.deviation[where].to(device)
        return batch

    def _encode(self, mirrored: bool) -> _Moments:
        scale = self.autoencoder.config.scaling_factor
        mean, deviation = encode_moments(self.autoencoder, self.images, mirrored)
        return _Moments(mean * scale, None if deviation is None else deviation * scale)

    @override
    def draws(self, count: int, generator: torch.Generator) -> Batch:
        shape = (count, self.shape.channels, self.shape.size, self.shape.size)
        posterior = torch.randn(shape, generator=generator, device=generator.device)
        return super().draws(count, generator) | {"posterior": posterior}

    @override
    def clean(self, batch: Batch) -> torch.Tensor:
        mean, deviation = self._mirrored(batch, "mean"), self._mirrored(batch, "deviation")
        return mean if deviation is None else mean + deviation * batch["posterior"]

    def _mirrored(self, batch: Batch, name: str) -> Any:
        """A tensor of the pictures, with that of the mirror images where the draw says so; None where there is none."""
        other = batch.get(f"mirrored_{name}")
        if other is None:
            return batch.get(name)
        return torch.where(batch["mirrored"][:, None, None, None], other, batch[name])
