"""The phase that trains a text-to-image latent diffusion model."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from headrace.training.tables.loop import LoopTable
from headrace.training.tables.processes import ProcessTable, VariancePreservingTable
from headrace.training.tables.table import Table


class TextToImagePhase(Table):
    """Trains a text encoder and a latent U-Net together, against a frozen autoencoder."""

    objective: Literal["text-to-image"]
    loop: LoopTable
    network: dict[str, Any] = Field(default_factory=dict, description="arguments of diffusers' UNet2DConditionModel")
    text_encoder: dict[str, Any] = Field(default_factory=dict, description="arguments of transformers' CLIPTextConfig")
    process: ProcessTable = Field(
        default_factory=lambda: VariancePreservingTable.model_validate({}), description="noise, target and weights"
    )
    vocabulary: int = Field(2048, ge=520, description="entries of the tokenizer, at most")
    max_tokens: int = Field(32, ge=4, le=77, description="length that captions are padded to")
    caption_dropout: float = Field(0.1, ge=0, le=1, description="fraction of captions replaced by the empty one")
    sample_guidance: float = Field(3.0, ge=1, description="guidance scale of the sample grids")
