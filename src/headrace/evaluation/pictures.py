"""Sets of pictures that are read one after another and never held as a whole."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from headrace.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
_IMAGE_COLUMNS = ("image", "img", "jpg", "png")
_LABEL_COLUMNS = ("label", "labels", "class_label")
_CAPTION_COLUMNS = ("caption", "text", "prompt")
_ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class Entry:
    """One encoded picture. `encoded` is None where its bytes cannot be read; `caption` is a text to show or None."""

    name: str
    encoded: bytes | None
    label: int | None = None
    caption: str | None = None


class PictureSource(Protocol):
    """A set of pictures in a fixed order."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    def __len__(self) -> int: ...

    def entries(self) -> Iterator[Entry]:
        """Every picture, in order, each time it is called."""
        ...


@dataclass(frozen=True)
class FileSource:
    """Picture files. `labels` and `captions`, where given, have one value a file."""

    name: str
    paths: Sequence[Path]
    labels: Sequence[int] | None = None
    captions: Sequence[str | None] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def entries(self) -> Iterator[Entry]:
        """Every picture; a caption that is not given is looked for in a text file beside it."""
        for number, path in enumerate(self.paths):
            caption = self.captions[number] if self.captions is not None else _beside(path)
            yield Entry(str(path), _read(path), self.labels[number] if self.labels is not None else None, caption)


@dataclass(frozen=True)
class ParquetSource:
    """Rows `chosen` (a test of the row's number) of a parquet file with encoded images; columns are found by name."""

    name: str
    path: Path
    image: str
    label: str | None
    caption: str | None
    rows: int
    chosen: Callable[[int], bool]

    def __len__(self) -> int:
        return sum(map(self.chosen, range(self.rows)))

    def entries(self) -> Iterator[Entry]:
        """Every chosen row. Raises `DataError` where the file breaks off."""
        columns = [column for column in (self.image, self.label, self.caption) if column is not None]
        row = 0
        try:
            for table in pq.ParquetFile(self.path).iter_batches(batch_size=_ROWS_AT_ONCE, columns=columns):
                for values in table.to_pylist():
                    if self.chosen(row):
                        yield self._entry(row, values)
                    row += 1
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.name} cannot be read at row {row}: {error}", "Restore the file") from None

    def _entry(self, row: int, values: dict[str, Any]) -> Entry:
        image = values[self.image]
        label = values[self.label] if self.label else None
        caption = values[self.caption] if self.caption else None
        return Entry(
            f"row {row}",
            image.get("bytes") if isinstance(image, dict) else image,
            label if isinstance(label, int) else None,
            str(caption) if caption else None,
        )


def open_source(path: Path, limit: int | None = None) -> PictureSource:
    """A folder of pictures (its sub-folders are classes) or a parquet file.

    `limit`: that many, spread evenly over the set. Raises `DataError` where there is nothing to read.
    """
    path = path.expanduser()
    if not path.exists():
        raise DataError(f"there are no pictures at {str(path)!r}", "Give a folder of images or a parquet file")
    source = _folder(path, limit) if path.is_dir() else _parquet(path, limit)
    if len(source) == 0:
        raise DataError(f"{str(path)!r} holds no pictures", f"Pictures end with {', '.join(sorted(SUFFIXES))}")
    return source


def digest(source: PictureSource) -> str:
    """64 hexadecimal digits that stand for all bytes, labels and captions of the set, in order."""
    hasher = hashlib.sha256()
    for entry in source.entries():
        content = hashlib.sha256(entry.encoded or b"").hexdigest()
        hasher.update(f"{content}:{entry.label}:{entry.caption}\n".encode())
    return hasher.hexdigest()


def decode(entry: Entry, size: tuple[int, int] | None = None) -> np.ndarray:
    """uint8 [H, W, 3], what is transparent on white. `size`: cut to its shape in the centre and scaled (Lanczos).

    Raises `DataError` naming the entry where it is no whole picture.
    """
    if entry.encoded is None:
        raise DataError(f"{entry.name} cannot be read", "Restore it, or remove it from the set")
    try:
        with Image.open(io.BytesIO(entry.encoded)) as opened:
            picture = opened.convert("RGBA")
    except UnidentifiedImageError:
        raise DataError(f"{entry.name} is no picture of a known format", "Remove it from the set") from None
    except (OSError, SyntaxError, ValueError, TypeError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise DataError(f"{entry.name} is not a whole picture: {error}", "Remove it from the set") from None
    canvas = Image.new("RGBA", picture.size, "white")
    canvas.alpha_composite(picture)
    plain = canvas.convert("RGB")
    return np.asarray(plain if size is None else _centre_crop(plain, size))


def _centre_crop(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The largest centred part with the shape of `size` (height, width), scaled to it with a Lanczos filter.

    A picture of that size stays as it is.
    """
    height, width = size
    if picture.size == (width, height):
        return picture
    scale = max(width / picture.width, height / picture.height)
    cut_width, cut_height = max(1, round(width / scale)), max(1, round(height / scale))
    left, top = (picture.width - cut_width) // 2, (picture.height - cut_height) // 2
    part = picture.crop((left, top, left + cut_width, top + cut_height))
    return part.resize((width, height), Image.Resampling.LANCZOS)


def _folder(path: Path, limit: int | None) -> FileSource:
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and not _hidden(file, path))
    keep = _evenly(len(files), limit)
    files = [file for number, file in enumerate(files) if keep(number)]
    classes = sorted({file.parent for file in files})
    labelled = len(classes) > 1 and path not in classes
    return FileSource(str(path), files, [classes.index(file.parent) for file in files] if labelled else None)


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def _parquet(path: Path, limit: int | None) -> ParquetSource:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{str(path)!r} is not a parquet file: {error}", "Give a parquet file or a folder") from None
    columns = file.schema_arrow.names

    def find(names: Sequence[str]) -> str | None:
        return next((name for name in names if name in columns), None)

    image = find(_IMAGE_COLUMNS)
    if image is None:
        raise DataError(
            f"{str(path)!r} has no column of pictures; it has {', '.join(columns)}",
            f"Name the column of encoded images {_IMAGE_COLUMNS[0]!r}",
        )
    rows = file.metadata.num_rows
    keep = _evenly(rows, limit)
    return ParquetSource(str(path), path, image, find(_LABEL_COLUMNS), find(_CAPTION_COLUMNS), rows, keep)


def _evenly(total: int, limit: int | None) -> Callable[[int], bool]:
    """Whether a number below `total` is among `limit` that lie evenly."""
    if limit is None or limit >= total:
        return lambda _: True
    return lambda number: (number + 1) * limit // total > number * limit // total


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None  # `decode` names it


def _beside(path: Path) -> str | None:
    text = path.with_suffix(".txt")
    return text.read_text(encoding="utf-8", errors="replace").strip() or None if text.is_file() else None
