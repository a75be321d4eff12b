"""The space of fused latents: each what a fused autoencoder makes of K pictures (FB-AE, FuseBatch, section 3.4)."""

from __future__ import annotations

import torch
from typing_extensions import override

from headrace.training.data import to_signed
from headrace.training.objectives.objective import Batch
from headrace.training.spaces.autoencoders import pictures_of
from headrace.training.spaces.latent import LatentSpace


class FusedLatentSpace(LatentSpace):
    """Latents drawn from the posterior of a `FuseBatchAutoencoderKL`, each of K pictures that stand together.

    Which pictures stand together is drawn anew in every pass, as is which of them are mirrored, so latents are encoded
    when they are learnt: one pass through the encoder for K pictures. Kept latents, as those of single pictures are,
    would be few (N / K) and of pairs that never change, and a network could learn the pairs.
    """

    @property
    @override
    def group(self) -> int:
        return pictures_of(self.autoencoder)

    @override
    def over(self, images: torch.Tensor) -> FusedLatentSpace:
        return FusedLatentSpace(self.autoencoder, images, flip=False)

    @override
    def batch(self, where: torch.Tensor, device: torch.device) -> Batch:
        return {"images": to_signed(self.images[where].to(device))}

    @override
    def clean(self, batch: Batch) -> torch.Tensor:
        """Latents, float32 [B / K, C, h, w], of the sample that is drawn for the first picture of each group."""
        images = batch["images"]
        shown = torch.where(batch["mirrored"][:, None, None, None], images.flip(-1), images)
        with torch.no_grad():
            posterior = self.autoencoder.encode(shown).latent_dist
        latents = posterior.mean.float() + posterior.std.float() * batch["posterior"][:: self.group]
        return latents * self.autoencoder.config.scaling_factor
