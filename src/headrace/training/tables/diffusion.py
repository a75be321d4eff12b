"""The phase that trains a diffusion model without text: on pixels or latents, unconditional or class-conditional."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from headrace.training.tables.fusion import FusedPhase
from headrace.training.tables.low_resolution import LowResolutionTable
from headrace.training.tables.processes import ProcessTable, VariancePreservingTable
from headrace.training.tables.stages import StagesTable


class DiffusionPhase(FusedPhase):
    """Trains a `UNet2DModel`. Space, conditioning, process and network are chosen independently of each other.

    With `fusion` = K > 1 the network takes groups of K pictures at one noise level, each with its own noise (FB-UNet,
    FuseBatch, section 3.2).
    """

    objective: Literal["diffusion"]
    fusion_kind: Literal["fusebatch", "patch-grid"] = Field(
        "fusebatch",
        description="patch-grid: the paper's naive baseline, four pictures at half size as quarters of one (its A.2)",
    )
    network: dict[str, Any] = Field(default_factory=dict, description="arguments of diffusers' UNet2DModel")
    process: ProcessTable = Field(
        default_factory=lambda: VariancePreservingTable.model_validate({}), description="noise, target and weights"
    )
    space: Literal["pixel", "latent"] = Field("pixel", description="latent: of a frozen autoencoder")
    autoencoder: str | None = Field(
        None, description="model folder with the autoencoder of latents; none: that of an earlier phase"
    )
    classes: int | None = Field(None, ge=2, description="number of classes; none: unconditional")
    class_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of pictures learnt without their class, so that the model can be guided (0.1 is usual)",
    )
    flip: bool = Field(True, description="mirror half of the pictures")
    initial: str | None = Field(None, description="model folder whose weights are taken where names and shapes agree")
    low_resolution: LowResolutionTable | None = Field(None, description="learn the noisy part of denoising at low size")
    stages: StagesTable | None = Field(None, description="a decoder for each stage of denoising")
    sample_steps: int = Field(50, ge=1, description="steps of the sample grids")

    @field_validator("stages")
    @classmethod
    def _has_no_grid(cls, stages: StagesTable | None, info: ValidationInfo) -> StagesTable | None:
        if stages is not None and info.data.get("fusion_kind") == "patch-grid":
            raise ValueError("a patch grid is of a plain network: leave stages out, or fuse as FuseBatch does")
        if stages is not None and stages.patience is not None:
            for chosen, name in ((info.data["fusion"] > 1, "fusion"), (info.data["loop"].cycles > 1, "loop.cycles")):
                if chosen:
                    raise ValueError(f"networks that stop early have no {name}: leave it or patience out")
        return stages

    @field_validator("class_dropout")
    @classmethod
    def _has_classes_to_leave_out(cls, share: float, info: ValidationInfo) -> float:
        if share and info.data.get("classes") is None:
            raise ValueError("there are no classes to leave out: set classes")
        return share

    @field_validator("fusion_kind")
    @classmethod
    def _takes_as_many(cls, kind: str, info: ValidationInfo) -> str:
        fusion, kernel = info.data.get("fusion", 4), info.data.get("fusion_kernel", 3)
        if kind == "patch-grid" and (fusion != 4 or kernel != 3):
            raise ValueError(f"it has no kernel and takes fusion = 4, which is {fusion}")
        return kind
