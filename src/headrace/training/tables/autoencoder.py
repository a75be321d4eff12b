"""The phase that trains an autoencoder."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from headrace.training.tables.fusion import FusedPhase


class AutoencoderPhase(FusedPhase):
    """Trains an `AutoencoderKL`, or the decoder alone against a frozen encoder.

    With `fusion` = K > 1 groups of K pictures have one latent (FB-AE, FuseBatch, section 3.4).
    """

    objective: Literal["autoencoder"]
    network: dict[str, Any] = Field(default_factory=dict, description="arguments of diffusers' AutoencoderKL")
    train_encoder: bool = Field(True, description="false: continue from the exported model, decoder only")
    gradient_weight: float = Field(0.5, ge=0, description="weight of the loss on spatial differences (thin lines)")
    kl_weight: float = Field(1e-4, ge=0, description="weight of the KL divergence, mean over latent elements")
    latent_noise: float = Field(0.0, ge=0, description="noise added to the latents, in units of their deviation")
