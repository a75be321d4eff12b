"""The autoencoder objective: pictures through `AutoencoderKL` and back."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch.nn import functional
from typing_extensions import override

from headrace.errors import RecipeError
from headrace.evaluation.metrics.paired import psnr
from headrace.models.pipelines.pixel import downsampling
from headrace.pictures.grid import image_grid
from headrace.techniques.fusebatch.autoencoder import FuseBatchAutoencoderKL
from headrace.training.data import ImageSet, to_bytes, to_signed
from headrace.training.export import save_component
from headrace.training.groups import check_batch, check_enough, spread_groups
from headrace.training.objectives.objective import Batch, Losses, Objective
from headrace.training.spaces.autoencoders import encode_moments, load_autoencoder, pictures_of, together
from headrace.training.tables.autoencoder import AutoencoderPhase

_SCORED = 256
_SHOWN = 24
_TOGETHER = 32


class AutoencoderObjective(Objective):
    """Reconstruction (Charbonnier, on pixels and on spatial differences) with a small KL term (arXiv:2112.10752).

    With `train_encoder = false` the encoder is frozen, so the latents that a U-Net has learnt stay what they are, and
    the decoder goes on alone; `latent_noise` then teaches it to forgive small errors of the U-Net.

    With `fusion` = K > 1 it is a `FuseBatchAutoencoderKL`: K pictures through one latent and back (FuseBatch, equation
    7). A decoder that goes on alone has the K of the autoencoder that it belongs to.
    """

    def __init__(self, phase: AutoencoderPhase, data: ImageSet, folder: Path) -> None:
        super().__init__()
        self.phase = phase
        self.data = data
        self.autoencoder = build_autoencoder(phase) if phase.train_encoder else load_autoencoder(folder)
        check_groups(phase, self.group)
        check_enough(data, self.group)
        if not phase.train_encoder:
            self.autoencoder.encoder.requires_grad_(False)
            self.autoencoder.quant_conv.requires_grad_(False)

    @property
    @override
    def group(self) -> int:
        """Pictures that one latent is of."""
        return pictures_of(self.autoencoder)

    def batch(self, indices: np.ndarray) -> Batch:
        """`images`: float32 [B, 3, H, W] in [-1, 1]."""
        return {"images": to_signed(self.data.images[indices]).to(self.autoencoder.device)}

    def draws(self, count: int, generator: torch.Generator) -> Batch:
        """`posterior` and `noise`, each normal [B, C, h, w]: for the sample of the latents and for `latent_noise`.

        A latent of several pictures takes what is drawn for the first of them.
        """
        config = self.autoencoder.config
        size = [side // downsampling(self.autoencoder) for side in self.data.images.shape[-2:]]
        shape, device = (count, config.latent_channels, *size), generator.device
        names = ("posterior", "noise") if self.phase.latent_noise else ("posterior",)
        return {name: torch.randn(shape, generator=generator, device=device) for name in names}

    def forward(self, batch: Batch) -> Losses:
        """`loss` and its parts, each a mean over elements."""
        images = batch["images"]
        with torch.set_grad_enabled(self.phase.train_encoder and torch.is_grad_enabled()):
            posterior = self.autoencoder.encode(images).latent_dist
        latents = posterior.mean + posterior.std * batch["posterior"][:: self.group]
        if self.phase.latent_noise:
            noise = batch["noise"][:: self.group]
            latents = latents + self.phase.latent_noise / self.autoencoder.config.scaling_factor * noise
        error = self.autoencoder.decode(latents).sample.float() - images
        pixels = charbonnier(error)
        gradients = difference_loss(error) + difference_loss(functional.avg_pool2d(error, 2))
        divergence = posterior.kl().float().mean() / math.prod(latents.shape[1:])
        loss = pixels + self.phase.gradient_weight * gradients + self.phase.kl_weight * divergence
        return {"loss": loss, "pixels": pixels.detach(), "gradients": gradients.detach(), "kl": divergence.detach()}

    def item_count(self) -> int:
        """Pictures in the data set."""
        return len(self.data)

    def sample_grid(self) -> Image.Image:
        """Pictures of the data set beside their reconstructions."""
        images = self._spread(_SHOWN)
        pairs = torch.stack([images, reconstruct(self.autoencoder, images)], dim=1).flatten(0, 1)
        return image_grid(pairs, columns=8)

    def scores(self) -> dict[str, float]:
        """`psnr`: of the reconstructions, dB, the mean over pictures."""
        images = self._spread(_SCORED)
        return {"psnr": psnr(images, reconstruct(self.autoencoder, images)).mean().item()}

    def _spread(self, most: int) -> torch.Tensor:
        """At most so many pictures of the data set, uint8, in whole groups."""
        return self.data.images[spread_groups(len(self.data), most, self.group)]

    def export(self, folder: Path) -> None:
        """Write `vae`, with latents of zero mean and unit deviation a channel where the encoder was trained too."""
        autoencoder = copy.deepcopy(self.autoencoder)
        if self.phase.train_encoder:
            whole = len(self.data) - len(self.data) % self.group
            normalise_latents(autoencoder, self.data.images[:whole])
        save_component(autoencoder, folder / "vae")


def build_autoencoder(phase: AutoencoderPhase) -> AutoencoderKL:
    """The network that the recipe describes. Raises `RecipeError` when diffusers refuses the arguments."""
    try:
        if phase.fusion > 1:
            return FuseBatchAutoencoderKL(factor=phase.fusion, kernel_size=phase.fusion_kernel, **phase.network)
        return AutoencoderKL(**phase.network)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"the autoencoder's network is refused: {error}", "See diffusers' AutoencoderKL") from None


def check_groups(phase: AutoencoderPhase, group: int) -> None:
    """Raises `RecipeError` where a decoder that goes on alone is of another K, or the batch is not of whole groups."""
    if phase.fusion not in (1, group):
        raise RecipeError(
            f"fusion is {phase.fusion}, and a latent of the autoencoder that goes on is of {group} pictures",
            f"Set fusion = {group}, or leave it out",
        )
    check_batch(phase.loop.batch_size, group)


def charbonnier(error: torch.Tensor, epsilon: float = 1e-2) -> torch.Tensor:
    """Mean of sqrt(error^2 + epsilon^2) - epsilon: absolute error, smooth at zero."""
    return (error.square() + epsilon**2).sqrt().mean() - epsilon


def difference_loss(error: torch.Tensor) -> torch.Tensor:
    """Charbonnier loss of the horizontal and vertical differences of an error [B, 3, H, W]."""
    return charbonnier(error.diff(dim=-1)) + charbonnier(error.diff(dim=-2))


@torch.no_grad()
def reconstruct(autoencoder: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """uint8 [N, 3, H, W], in whole groups, to uint8 of the same shape, through the mean of the posterior."""
    parts = []
    for part in images.split(together(autoencoder, _TOGETHER)):
        mean = autoencoder.encode(to_signed(part).to(autoencoder.device)).latent_dist.mode()
        parts.append(to_bytes(autoencoder.decode(mean).sample).cpu())
    return torch.cat(parts)


@torch.no_grad()
def normalise_latents(autoencoder: AutoencoderKL, images: torch.Tensor) -> None:
    """Give the latents zero mean and unit deviation a channel, in place, without changing any reconstruction.

    `quant_conv` and `post_quant_conv` are 1x1 convolutions, so shift and scale are absorbed by their weights exactly,
    and `scaling_factor` is 1. (Stable Diffusion's pipeline knows one factor and no shift.)
    """
    mean, deviation = encode_moments(autoencoder, images)
    assert deviation is not None  # an AutoencoderKL has one
    shift = mean.mean(dim=(0, 2, 3))
    scale = (mean.var(dim=(0, 2, 3)) + deviation.square().mean(dim=(0, 2, 3))).sqrt()
    outward, inward = autoencoder.quant_conv, autoencoder.post_quant_conv
    channels = len(scale)
    inward.bias += inward.weight[:, :, 0, 0] @ shift
    inward.weight *= scale[None, :, None, None]
    outward.weight[:channels] /= scale[:, None, None, None]
    outward.bias[:channels] = (outward.bias[:channels] - shift) / scale
    outward.bias[channels:] -= 2 * scale.log()
    autoencoder.register_to_config(scaling_factor=1.0)
