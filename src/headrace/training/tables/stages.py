"""The table of a phase whose network has a decoder for each stage of denoising."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from headrace.training.tables.table import Table

Widths = Annotated[tuple[int, ...], Field(strict=False)]


class StagesTable(Table):
    """One encoder and a decoder for each stage (Multistage, section 3.1); lists begin with the stage nearest the image.

    A batch spans stages: the encoder runs once for all of it, and each decoder learns its own samples.
    """

    boundaries: tuple[float, ...] = Field(
        strict=False, description="times of the variance-preserving kernel between stages, whatever the process is"
    )
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
