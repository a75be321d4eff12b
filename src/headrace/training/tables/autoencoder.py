"""The phase that trains an autoencoder."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from headrace.training.tables.loop import LoopTable
from headrace.training.tables.table import Table


class AutoencoderPhase(Table):
    """Trains an `AutoencoderKL`, or the decoder alone against a frozen encoder."""

    objective: Literal["autoencoder"]
    loop: LoopTable
    network: dict[str, Any] = Field(default_factory=dict, description="arguments of diffusers' AutoencoderKL")
    train_encoder: bool = Field(True, description="false: continue from the exported model, decoder only")
    gradient_weight: float = Field(0.5, ge=0, description="weight of the loss on spatial differences (thin lines)")
    kl_weight: float = Field(1e-4, ge=0, description="weight of the KL divergence, mean over latent elements")
    latent_noise: float = Field(0.0, ge=0, description="noise added to the latents, in units of their deviation")
