"""The table of a recipe that says which pictures are learnt."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from headrace.training.tables.table import Table


class DataTable(Table):
    """Which pictures are learnt, and at what size.

    A set is a folder of images (class sub-folders give labels), a parquet file or a folder of them, or a Hugging Face
    dataset saved to disk. Columns that are not named are found by the set's features, or by their usual names.
    """

    path: str | None = Field(None, description="a folder of images, parquet file(s), or a saved Hugging Face dataset")
    image_column: str | None = Field(None, description="column of encoded images (PNG, JPEG, ...)")
    caption_column: str | None = Field(None, description="column of captions")
    label_column: str | None = Field(None, description="column of class numbers, from 0")
    held_out: str | None = Field(None, description="a set of the same form that is not learnt, for scores")
    exclude: tuple[str, ...] = Field((), strict=False, description="rows whose caption holds one of these are left out")
    size: int = Field(64, ge=8, le=1024, description="side of the square pictures, pixels")
    crop: Literal["centre", "resize"] = Field("centre", description="cut the largest square, or stretch without a cut")
    limit: int | None = Field(None, ge=1, description="only the first rows, for a trial")
    memory_map: str | None = Field(None, description="folder for the decoded pictures, in place of memory; found again")
    max_corrupt: float = Field(0.01, ge=0, le=1, description="fraction of unreadable pictures that is put up with")
