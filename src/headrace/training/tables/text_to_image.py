"""The phase that trains a text-to-image latent diffusion model."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from headrace.training.tables.fusion import FusedPhase
from headrace.training.tables.low_resolution import LowResolutionTable
from headrace.training.tables.processes import ProcessTable, VariancePreservingTable


class TextToImagePhase(FusedPhase):
    """Trains a latent U-Net and its text encoder against a frozen autoencoder, anew or from a trained model.

    With `fusion` = K > 1 the network takes groups of K pictures, each with its own caption (FuseBatch). Networks of
    several K go into one model (`headrace fuse`) where they have one text encoder: `train_text_encoder` = false.
    """

    objective: Literal["text-to-image"]
    network: dict[str, Any] = Field(default_factory=dict, description="arguments of diffusers' UNet2DConditionModel")
    text_encoder: dict[str, Any] = Field(default_factory=dict, description="arguments of transformers' CLIPTextConfig")
    process: ProcessTable = Field(
        default_factory=lambda: VariancePreservingTable.model_validate({}), description="noise, target and weights"
    )
    vocabulary: int = Field(2048, ge=520, description="entries of the tokenizer, at most")
    max_tokens: int = Field(32, ge=4, le=77, description="length that captions are padded to")
    caption_dropout: float = Field(0.1, ge=0, le=1, description="fraction of captions replaced by the empty one")
    sample_guidance: float = Field(3.0, ge=1, description="guidance scale of the sample grids")
    initial: str | None = Field(
        None,
        description="model folder or embedded name to go on from: its autoencoder, tokenizer, networks and solver are "
        "taken, and vocabulary and max_tokens do not count",
    )
    train_text_encoder: bool = Field(True, description="false: the text encoder stays as it is")
    low_resolution: LowResolutionTable | None = Field(None, description="learn the noisy part of denoising at low size")

    @field_validator("initial")
    @classmethod
    def _brings_its_networks(cls, initial: str | None, info: ValidationInfo) -> str | None:
        if initial is not None and (info.data.get("network") or info.data.get("text_encoder")):
            raise ValueError("its networks are taken as they are; leave network and text_encoder out")
        return initial
