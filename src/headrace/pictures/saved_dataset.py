"""Hugging Face datasets that `datasets.save_to_disk` wrote, read without that library.

Such a folder holds Arrow streams, `state.json` that names them in order, and `dataset_info.json` with the features;
a `DatasetDict` is a folder of these with a `dataset_dict.json`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from headrace.errors import DataError
from headrace.pictures.columns import ColumnNames, find_columns, noted_features, plain_features
from headrace.pictures.rows import RowSource, StreamShard, open_shards

STATE = "state.json"
INFO = "dataset_info.json"
SPLITS = "dataset_dict.json"
_SAVE_AGAIN = "Save it again: datasets.load_from_disk(FOLDER).flatten_indices().save_to_disk(ANOTHER_FOLDER)"


def is_saved_dataset(folder: Path) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    if (folder / SPLITS).is_file():
        return True
    return (folder / STATE).is_file() and ((folder / INFO).is_file() or any(folder.glob("*.arrow")))


def open_saved_dataset(folder: Path, names: ColumnNames, limit: int | None = None) -> RowSource:
    """The rows of a dataset, in the order in which it was saved.

    Raises `DataError` for a folder of splits, naming them, for rows behind an index table, and for damaged files.
    """
    if (folder / SPLITS).is_file():
        splits = _read_json(folder / SPLITS).get("splits", [])
        one = str(folder / str(splits[0])) if splits else "FOLDER/train"
        raise DataError(f"{str(folder)!r} holds the splits {', '.join(map(str, splits))}", f"Name one, as {one!r}")
    state = _read_json(folder / STATE)
    if any(value for key, value in state.items() if key.startswith("_indices") and "file" in key):
        raise DataError(f"{str(folder)!r} holds its rows in an order kept apart, in an index table", _SAVE_AGAIN)
    files = state.get("_data_files")
    if not isinstance(files, list) or not all(isinstance(one, dict) and "filename" in one for one in files):
        raise DataError(f"{STATE} of {str(folder)!r} names no data files", _SAVE_AGAIN)
    declared = plain_features(_read_json(folder / INFO).get("features"))
    return open_shards(
        str(folder),
        [StreamShard(folder / str(one["filename"])) for one in files],
        "an Arrow stream",
        lambda schema: find_columns(repr(str(folder)), schema, names, declared or noted_features(schema)),
        limit,
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{str(path)!r} cannot be read: {error}", _SAVE_AGAIN) from None
    if not isinstance(content, dict):
        raise DataError(f"{str(path)!r} holds no JSON object", _SAVE_AGAIN)
    return content
