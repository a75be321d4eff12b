"""The phase that trains a diffusion model without text: on pixels or latents, unconditional or class-conditional."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from headrace.training.tables.loop import LoopTable
from headrace.training.tables.low_resolution import LowResolutionTable
from headrace.training.tables.processes import ProcessTable, VariancePreservingTable
from headrace.training.tables.table import Table


class DiffusionPhase(Table):
    """Trains a `UNet2DModel`. Space, conditioning, process and network are chosen independently of each other."""

    objective: Literal["diffusion"]
    loop: LoopTable
    network: dict[str, Any] = Field(default_factory=dict, description="arguments of diffusers' UNet2DModel")
    process: ProcessTable = Field(
        default_factory=lambda: VariancePreservingTable.model_validate({}), description="noise, target and weights"
    )
    space: Literal["pixel", "latent"] = Field("pixel", description="latent: of a frozen autoencoder")
    autoencoder: str | None = Field(
        None, description="model folder with the autoencoder of latents; none: that of an earlier phase"
    )
    classes: int | None = Field(None, ge=2, description="number of classes; none: unconditional")
    flip: bool = Field(True, description="mirror half of the pictures")
    initial: str | None = Field(None, description="model folder whose weights are taken where names and shapes agree")
    low_resolution: LowResolutionTable | None = Field(None, description="learn the noisy part of denoising at low size")
    sample_steps: int = Field(50, ge=1, description="steps of the sample grids")
