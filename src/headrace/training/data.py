"""Pictures for training: decoded once, kept in memory as 8-bit tensors."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from headrace.errors import DataError
from headrace.training.tables.data import DataTable

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


@dataclass(frozen=True)
class ImageSet:
    """`images`: uint8 [N, 3, size, size]. `captions`: N strings, empty where the source has none.

    `labels`: int64 [N], where the source has class labels. `held_out`: pictures for scores, that are not learnt.
    """

    images: torch.Tensor
    captions: tuple[str, ...]
    labels: torch.Tensor | None = None
    held_out: ImageSet | None = None

    def __len__(self) -> int:
        return len(self.captions)


def load_images(table: DataTable) -> ImageSet:
    """Everything the recipe's data table selects. Raises `DataError` when it cannot be read or nothing is left."""
    if table.path is None:
        raise DataError("no data set is given", "Add data.path=FILE.parquet (or a folder of images) to the command")
    held_out = None if table.held_out is None else _load(Path(table.held_out).expanduser(), table)
    return replace(_load(Path(table.path).expanduser(), table), held_out=held_out)


def _load(path: Path, table: DataTable) -> ImageSet:
    if not path.exists():
        raise DataError(f"there is no data set at {str(path)!r}", "Give data.path=FILE.parquet or a folder of images")
    source = _from_folder(path) if path.is_dir() else _from_parquet(path, table)
    images, captions, labels = [], [], []
    for name, encoded, caption, label in source:
        if any(word in caption for word in table.exclude):
            continue
        images.append(_decode(encoded, table.size, name))
        captions.append(caption)
        labels.append(label)
        if table.limit is not None and len(images) == table.limit:
            break
    if not images:
        raise DataError(f"no picture of {str(path)!r} is selected", "Look at data.exclude and at the file")
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    labelled = all(label is not None for label in labels)
    return ImageSet(pixels, tuple(captions), torch.tensor(labels) if labelled else None)


def to_signed(images: torch.Tensor) -> torch.Tensor:
    """Uint8 [..., 3, H, W] to float32 in [-1, 1]."""
    return images.float().div(127.5).sub(1.0)


def to_bytes(images: torch.Tensor) -> torch.Tensor:
    """Float [..., 3, H, W] in [-1, 1] to uint8, clipped and rounded."""
    return images.float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def _from_parquet(path: Path, table: DataTable) -> Iterator[tuple[str, bytes, str, int | None]]:
    try:
        content = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{str(path)!r} is not a parquet file: {error}", "Give a parquet file or a folder") from None
    if table.image_column not in content.column_names:
        columns = ", ".join(content.column_names)
        raise DataError(
            f"{str(path)!r} has no column {table.image_column!r}", f"Set data.image_column; it has: {columns}"
        )
    encoded = content.column(table.image_column).to_pylist()
    named = table.caption_column in content.column_names
    captions = content.column(table.caption_column).to_pylist() if named else [""] * len(encoded)
    labelled = table.label_column in content.column_names
    labels = content.column(table.label_column).to_pylist() if labelled else [None] * len(encoded)
    for row, (image, caption, label) in enumerate(zip(encoded, captions, labels, strict=True)):
        yield f"row {row}", image["bytes"] if isinstance(image, dict) else image, str(caption or ""), label


def _from_folder(path: Path) -> Iterator[tuple[str, bytes, str, int | None]]:
    """Pictures by name; the caption is a text file of the same name, or else the name itself."""
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in _SUFFIXES:
            text = file.with_suffix(".txt")
            caption = text.read_text(encoding="utf-8").strip() if text.exists() else file.stem.replace("_", " ")
            yield str(file), file.read_bytes(), caption, None


def _decode(encoded: bytes, size: int, name: str) -> np.ndarray:
    """uint8 [size, size, 3], the alpha channel composited on white, resized with a Lanczos filter."""
    try:
        picture = Image.open(io.BytesIO(encoded)).convert("RGBA")
    except (OSError, TypeError) as error:
        raise DataError(f"{name} is not a picture: {error}", "Remove it from the data set") from None
    canvas = Image.new("RGBA", picture.size, "white")
    canvas.alpha_composite(picture)
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = canvas.convert("RGB").crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.LANCZOS))
