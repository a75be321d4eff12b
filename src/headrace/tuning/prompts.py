"""The prompts that a tuning makes pictures of, with their real pictures where a table has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from headrace.errors import DataError, TuningError
from headrace.pictures.parquet import split_files
from headrace.training.data import load_images
from headrace.training.tables.data import DataTable

_IMAGES = ("image", "img", "jpg", "png")
_CAPTIONS = ("caption", "text", "prompt")
_LEAST = 4


@dataclass(frozen=True)
class Pictures:
    """Real pictures: `references` uint8 [M, H, W, 3], and `truths` [N], the picture of each prompt."""

    references: NDArray[np.uint8]
    truths: NDArray[np.int64]


@dataclass(frozen=True)
class Prompts:
    """N prompts in random order: the first `searched` are for the search, the others to confirm what it found."""

    texts: tuple[str, ...]
    searched: int
    pictures: Pictures | None = None

    def __post_init__(self) -> None:
        if not 1 < self.searched < len(self.texts) - 1:
            raise TuningError(
                f"{len(self.texts)} prompts cannot be shared between a search and its confirmation",
                f"Give at least {_LEAST}",
            )

    @property
    def confirming(self) -> range:
        """Indices of the prompts that the search does not see."""
        return range(self.searched, len(self.texts))


def read_prompts(path: Path, size: int, count: int, exclude: Sequence[str] = (), seed: int = 0) -> Prompts:
    """`count` prompts of a text file with one a line, or of a table's captions, half of them to confirm.

    `size` is the side of the model's pictures in pixels, which a table's are scaled to; captions that hold one of
    `exclude` are left out. Raises `DataError` for a file without prompts, `TuningError` for too few.
    """
    path = path.expanduser()
    if not path.exists() and not split_files(path):
        raise DataError(f"there are no prompts at {str(path)!r}", "Give a text file, or a parquet table with captions")
    generator = np.random.default_rng(seed)
    if path.is_file() and path.suffix != ".parquet":
        return _chosen(_lines(path), None, count, generator)
    if path.is_file() and not set(names := _columns(path)) & set(_IMAGES):
        captions = [text for text in _captions(path, names) if not any(word in text for word in exclude)]
        return _chosen(captions, None, count, generator)
    data = load_images(DataTable.model_validate({"path": str(path), "exclude": tuple(exclude), "size": size}))
    return _chosen(data.captions, data.images.permute(0, 2, 3, 1).contiguous().numpy(), count, generator)


def _chosen(
    captions: Sequence[str], images: NDArray[np.uint8] | None, count: int, generator: np.random.Generator
) -> Prompts:
    """At most `count` of the captions that say something, at random; each text once."""
    first: dict[str, int] = {}
    for place, text in enumerate(captions):
        if text.strip():
            first.setdefault(text.strip(), place)
    if not first:
        raise DataError("the data holds no prompts", "Give a line for each, or a table with a column of captions")
    texts, places = list(first), np.array(list(first.values()))
    order = generator.permutation(len(texts))[:count]
    chosen = tuple(texts[place] for place in order)
    pictures = None if images is None else Pictures(images, places[order])
    return Prompts(chosen, len(chosen) // 2, pictures)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{str(path)!r} cannot be read: {error}", "Give a text file with a prompt a line") from None


def _columns(path: Path) -> list[str]:
    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{str(path)!r} cannot be read: {error}", "Restore it") from None


def _captions(path: Path, names: Sequence[str]) -> list[str]:
    name = next((name for name in _CAPTIONS if name in names), None)
    if name is None:
        raise DataError(
            f"{str(path)!r} has no column of captions; it has: {', '.join(names)}", f"Name it {_CAPTIONS[0]!r}"
        )
    try:
        return [str(text) for text in pq.read_table(path, columns=[name])[name].to_pylist() if text]
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{str(path)!r} cannot be read: {error}", "Restore it") from None
