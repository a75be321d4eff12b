"""Sets of pictures in parquet files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from headrace.errors import DataError
from headrace.pictures.columns import ColumnNames, find_columns, noted_features
from headrace.pictures.rows import ParquetShard, RowSource, open_shards

_SHARD = re.compile(r"^(?P<split>.+?)-\d+-of-\d+(-\w+)?\.parquet$")


def open_parquet(path: Path, files: Sequence[Path], names: ColumnNames, limit: int | None = None) -> RowSource:
    """The rows of `files`, one after another, under the name of `path`.

    Raises `DataError` for a file that is no parquet file, or without the columns of the first.
    """
    shards = [ParquetShard(file) for file in files]
    where = repr(str(files[0]))
    return open_shards(
        str(path),
        shards,
        "a parquet file",
        lambda schema: find_columns(where, schema, names, noted_features(schema)),
        limit,
    )


def parquet_files(folder: Path) -> list[Path]:
    """Parquet files of a folder, by name. Raises `DataError` where they are of several splits, by their names."""
    files = sorted(file for file in folder.glob("*.parquet") if not file.name.startswith("."))
    splits = {split for split in map(_split, files) if split is not None}
    if len(splits) > 1:
        one = min(splits)
        raise DataError(
            f"{str(folder)!r} holds the splits {', '.join(sorted(splits))}", f"Name one, as {str(folder / one)!r}"
        )
    return files


def split_files(path: Path) -> list[Path]:
    """Files of one split: `data/train` stands for `data/train-00000-of-00002.parquet` and so on."""
    return sorted(file for file in path.parent.glob("*.parquet") if _split(file) == path.name)


def _split(file: Path) -> str | None:
    found = _SHARD.match(file.name)
    return found["split"] if found else None
