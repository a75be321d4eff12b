"""Pictures for training: decoded once, kept as 8-bit tensors in memory or in a mapped file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from headrace.errors import DataError
from headrace.pictures.columns import ColumnNames
from headrace.pictures.entry import Entry, PictureSource
from headrace.pictures.folder import FileSource
from headrace.pictures.source import FORMS, open_source
from headrace.training.decoded import Row, decode_into_file, decode_into_memory
from headrace.training.decoding_bar import tell_skipped
from headrace.training.tables.data import DataTable


@dataclass(frozen=True)
class ImageSet:
    """`images`: uint8 [N, 3, size, size]. `captions`: N strings, empty where the source has none.

    `labels`: int64 [N], where every picture has a whole number; whether they are classes, `class_labels` tells.
    `held_out`: pictures for scores, that are not learnt. `names`: N files or rows, for messages. `classes`: names of
    the classes, where the set has them. `skipped`: what could not be decoded. `label_fault`: why there are no labels.
    """

    images: torch.Tensor
    captions: tuple[str, ...]
    labels: torch.Tensor | None = None
    held_out: ImageSet | None = None
    names: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None
    skipped: tuple[str, ...] = ()
    label_fault: str = "the data set has no class labels"

    def __len__(self) -> int:
        return len(self.captions)

    def class_labels(self, classes: int) -> torch.Tensor:
        """int64 [N], all in [0, classes). Raises `DataError` naming the row where there are none, or others."""
        if self.labels is None:
            raise DataError(
                self.label_fault, "Set data.label_column to a column of class numbers, or leave classes out"
            )
        wrong = (self.labels < 0) | (self.labels >= classes)
        if wrong.any():
            index = int(wrong.nonzero()[0])
            name = self.names[index] if self.names else f"picture {index}"
            problem = f"{name} has the class label {int(self.labels[index])}, and there are {classes} classes, from 0"
            raise DataError(problem, "Set the number of classes to the largest label plus one, or mend the labels")
        return self.labels


@dataclass(frozen=True)
class Selection:
    """The pictures of a source whose caption holds none of the words `exclude`: the first `limit` of these."""

    source: PictureSource
    exclude: tuple[str, ...]
    limit: int | None

    @property
    def name(self) -> str:
        """The source's."""
        return self.source.name

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The source's."""
        return self.source.classes

    def __len__(self) -> int:
        """At most so many."""
        return len(self.source) if self.limit is None else min(self.limit, len(self.source))

    def entries(self) -> Iterator[Entry]:
        """Every picture, with a caption: a file that has none is called by its name."""
        count = 0
        for entry in self.source.entries():
            caption = entry.caption or ""
            if not caption and isinstance(self.source, FileSource):
                caption = Path(entry.name).stem.replace("_", " ")
            if any(word in caption for word in self.exclude):
                continue
            yield replace(entry, caption=caption)
            count += 1
            if count == self.limit:
                return


def load_images(table: DataTable) -> ImageSet:
    """Everything the recipe's data table selects; what cannot be decoded is told on standard error and left out.

    Raises `DataError` when a set cannot be read, nothing is left of it, or too much of it is corrupt; `OutputError`
    where decoded pictures cannot be kept.
    """
    if table.path is None:
        raise DataError("no data set is given", f"Add data.path=PATH to the command: {FORMS}")
    learnt = _load(Path(table.path), table)
    if table.held_out is None:
        return learnt
    held_out = _load(Path(table.held_out), table)
    if learnt.classes and held_out.classes and learnt.classes != held_out.classes:
        other = sorted(set(learnt.classes) ^ set(held_out.classes)) or ["their order"]
        problem = f"{table.path!r} and {table.held_out!r} have different classes: they differ in {', '.join(other[:3])}"
        raise DataError(problem, "Give both sets the same classes, so that a number means the same in both")
    return replace(learnt, held_out=held_out)


def _load(path: Path, table: DataTable) -> ImageSet:
    names = ColumnNames(table.image_column, table.label_column, table.caption_column)
    source = Selection(open_source(path, names=names), table.exclude, table.limit)
    if table.memory_map is None:
        found = decode_into_memory(source, table)
    else:
        found = decode_into_file(source, table, Path(table.memory_map).expanduser())
    if not found.rows:
        one = f": {found.skipped[0]}" if found.skipped else ""
        raise DataError(f"no picture of {str(path)!r} is left{one}", "Look at data.exclude and at the set")
    tell_skipped(source.name, found.skipped, len(found.rows))
    labels, fault = _whole_numbers(found.rows)
    if labels is None and table.label_column is not None:
        raise DataError(fault, "Set data.label_column to a column of class numbers, or to none")
    captions, rows = tuple(row.caption for row in found.rows), tuple(row.name for row in found.rows)
    pixels = torch.from_numpy(found.pixels)
    return ImageSet(pixels, captions, labels, None, rows, source.classes, found.skipped, fault)


def _whole_numbers(rows: Sequence[Row]) -> tuple[torch.Tensor | None, str]:
    """int64 [N] of the labels and "", or None and why not."""
    labels: list[int] = []
    for row in rows:
        label = row.label
        if label is None:
            fault = f"{row.name} has no class label" if labels else "the data set has no class labels"
            return None, fault
        if not isinstance(label, int) or isinstance(label, bool) or not -(2**63) <= label < 2**63:
            return None, f"{row.name} has the label {label!r}, and classes are whole numbers from 0"
        labels.append(label)
    return torch.tensor(labels), ""


def to_signed(images: torch.Tensor) -> torch.Tensor:
    """Uint8 [..., 3, H, W] to float32 in [-1, 1]."""
    return images.float().div(127.5).sub(1.0)


def to_bytes(images: torch.Tensor) -> torch.Tensor:
    """Float [..., 3, H, W] in [-1, 1] to uint8, clipped and rounded."""
    return images.float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)
