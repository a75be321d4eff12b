"""The phase that trains a pixel-space diffusion model, unconditional or class-conditional."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from headrace.training.tables.loop import LoopTable
from headrace.training.tables.table import Table


class DiffusionPhase(Table):
    """Trains a `UNet2DModel` on pixels (Ho et al. 2020); class-conditional where `classes` is given."""

    objective: Literal["diffusion"]
    loop: LoopTable
    network: dict[str, Any] = Field(default_factory=dict, description="arguments of diffusers' UNet2DModel")
    solver: dict[str, Any] = Field(default_factory=dict, description="arguments of diffusers' DDPMScheduler")
    classes: int | None = Field(None, ge=2, description="number of classes; none: unconditional")
    flip: bool = Field(True, description="mirror half of the pictures")
    min_snr_gamma: float | None = Field(None, gt=0, description="loss weighting of arXiv:2303.09556; none = uniform")
    initial: str | None = Field(None, description="model folder whose weights are taken where names and shapes agree")
    sample_steps: int = Field(50, ge=1, description="DDIM steps of the sample grids")
