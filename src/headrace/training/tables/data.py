"""The table of a recipe that says which pictures are learnt."""

from __future__ import annotations

from pydantic import Field

from headrace.training.tables.table import Table


class DataTable(Table):
    """Which pictures are learnt, and at what size."""

    path: str | None = Field(None, description="a parquet file with encoded images, or a folder of images")
    image_column: str = Field("image", description="column of encoded images (PNG, JPEG, ...)")
    caption_column: str = Field("caption", description="column of captions")
    label_column: str = Field("label", description="column of class numbers, from 0")
    held_out: str | None = Field(None, description="a set of the same form that is not learnt, for scores")
    exclude: tuple[str, ...] = Field((), strict=False, description="rows whose caption holds one of these are left out")
    size: int = Field(64, ge=8, le=1024, description="side of the square pictures, pixels")
    limit: int | None = Field(None, ge=1, description="only the first rows, for a trial")
