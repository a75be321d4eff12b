"""Stages that were found for a data set, as a file."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from headrace.artefact import Artefact
from headrace.errors import ArtefactError, PlanError
from headrace.techniques.multistage.schedule import Stages

Method = Literal["optimal-denoiser", "timestep", "snr", "gradient"]

_Share = Annotated[float, Field(ge=-1, le=1)]
_MATCHED = 1e-6


class StagesArtefact(Artefact):
    """What `headrace calibrate stages` found (the paper's section 3.2 and appendix B, Tables 4 and 7).

    `model` is what was measured and `weights` what it depends on: for the optimal denoiser the data set and its digest,
    for gradients a model and its fingerprint. Boundaries are times of the variance-preserving kernel, as `Stages` has
    them, whatever kernel was measured; `sigmas` are the noise levels with the same signal-to-noise ratio, for EDM.
    """

    KIND: ClassVar[str] = "stages"

    method: Method = Field(description="how the time line was cut")
    data: str = Field(min_length=1, description="name of the data set")
    images: int = Field(ge=0, description="images of it that were used; 0 where none is needed")
    kernel: str = Field(min_length=1, description="vp or edm: whose time the samples are spread over")
    eta: float | None = Field(default=None, gt=0, lt=1, description="difference up to which predictions are equal")
    alpha: float | None = Field(default=None, gt=0, lt=1, description="mean similarity of the first and last stage")
    samples: int = Field(ge=0, description="noisy images that were denoised, or images a gradient is of")
    definition: str = Field(default="", description="what was compared with what")
    boundaries: tuple[float, ...] = Field(description="times of the variance-preserving kernel, increasing")
    sigmas: tuple[float, ...] = Field(description="the same boundaries as noise levels")
    times: tuple[float, ...] = Field(default=(), description="times of the kernel that the table is for, increasing")
    similarity: tuple[tuple[_Share, ...], ...] = Field(
        default=(), description="between all pairs of these times: equation 6, or cosines of gradients"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        stages = self.stages
        if len(self.sigmas) != len(self.boundaries) or not np.allclose(self.sigmas, stages.sigmas, rtol=_MATCHED):
            raise ArtefactError(
                f"sigmas {self.sigmas} are not those of the boundaries {self.boundaries}",
                "Give a file that calibration wrote, unchanged",
            )
        if [len(line) for line in self.similarity] != [len(self.times)] * len(self.times):
            raise ArtefactError(
                f"similarity is not a table of {len(self.times)} by {len(self.times)}",
                "Give a file that calibration wrote, unchanged",
            )
        return self

    @property
    def stages(self) -> Stages:
        """The boundaries as `Stages`. Raises `ArtefactError` where they are none."""
        try:
            return Stages(self.boundaries)
        except PlanError as error:
            raise ArtefactError(error.problem, error.remedy) from None
