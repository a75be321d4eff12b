"""A path that a user gives, opened as a set of pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from headrace.errors import DataError
from headrace.pictures.columns import ColumnNames
from headrace.pictures.entry import Entry, PictureSource
from headrace.pictures.folder import SUFFIXES, open_folder
from headrace.pictures.parquet import open_parquet, parquet_files, split_files
from headrace.pictures.saved_dataset import is_saved_dataset, open_saved_dataset

FORMS = "a folder of images, a parquet file, a folder of parquet files, or a saved Hugging Face dataset"


def open_source(path: Path, limit: int | None = None, names: ColumnNames | None = None) -> PictureSource:
    """A folder of pictures (its sub-folders are classes), parquet files, or a saved Hugging Face dataset.

    `limit`: that many, spread evenly over the set. `names`: columns of a table, where they have other names than usual.
    Raises `DataError` where there is nothing to read.
    """
    path, names = path.expanduser(), names or ColumnNames()
    source = _open(path, limit, names)
    if len(source) == 0:
        raise DataError(f"{str(path)!r} holds no pictures", f"Pictures end with {', '.join(sorted(SUFFIXES))}")
    return source


def _open(path: Path, limit: int | None, names: ColumnNames) -> PictureSource:
    if path.is_file():
        return open_parquet(path, [path], names, limit)
    files = parquet_files(path) if path.is_dir() else split_files(path)
    if files:
        return open_parquet(path, files, names, limit)
    if not path.exists():
        raise DataError(f"there are no pictures at {str(path)!r}", f"Give {FORMS}")
    return open_saved_dataset(path, names, limit) if is_saved_dataset(path) else open_folder(path, limit)


def digest(source: PictureSource) -> str:
    """64 hexadecimal digits that stand for all bytes, labels and captions of the set, in order."""
    return digest_entries(source.entries())


def digest_entries(entries: Iterable[Entry]) -> str:
    """The digest of a set that has these entries."""
    hasher = hashlib.sha256()
    for entry in entries:
        content = hashlib.sha256(entry.encoded or b"").hexdigest()
        hasher.update(f"{content}:{entry.label}:{entry.caption}\n".encode())
    return hasher.hexdigest()
