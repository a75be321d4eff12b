"""The table of a phase whose network has a decoder for each stage of denoising."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from headrace.training.tables.table import Table

Widths = Annotated[tuple[int, ...], Field(strict=False)]


class StagesTable(Table):
    """One encoder and a decoder for each stage (Multistage, section 3.1); lists begin with the stage nearest the image.

    A batch spans stages: the encoder runs once for all of it, and each decoder learns its own samples.
    """

    boundaries: tuple[float, ...] | None = Field(
        None,
        strict=False,
        description="times of the variance-preserving kernel between stages, for every process",
    )
    artefact: str | None = Field(None, description="file of `headrace calibrate stages`, in place of boundaries")
    decoders: tuple[int | Widths, ...] = Field(
        strict=False,
        description="width of each decoder: one number, to which the encoder's multipliers apply, or one a level",
    )
    attention: tuple[bool, ...] | None = Field(
        None, strict=False, description="which decoders have attention where the network has it; none: all"
    )
    shared: bool = Field(
        True, description="false: an encoder for each decoder, the separate networks that the paper compares with"
    )

    patience: int | None = Field(
        None,
        ge=1,
        description="separate networks: one stops learning when its loss on data.held_out has not fallen in so many "
        "scorings (loop.sample_every), and has the weights of its best one; none: all learn to the end",
    )

    @model_validator(mode="after")
    def _stops_what_is_separate(self) -> Self:
        if self.patience is not None and self.shared:
            raise ValueError("patience is for separate networks: a decoder cannot stop while its encoder learns on")
        return self

    @model_validator(mode="after")
    def _says_where_stages_begin(self) -> Self:
        if (self.boundaries is None) == (self.artefact is None):
            raise ValueError("give either boundaries or the artefact that has them")
        return self
