"""Picture files, and folders of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.pictures.entry import Entry
from headrace.pictures.spread import evenly

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})


@dataclass(frozen=True)
class FileSource:
    """Picture files. `labels` and `captions`, where given, have one value a file."""

    name: str
    paths: Sequence[Path]
    labels: Sequence[int] | None = None
    captions: Sequence[str | None] | None = None
    classes: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def entries(self) -> Iterator[Entry]:
        """Every picture; a caption that is not given is looked for in a text file beside it."""
        for number, path in enumerate(self.paths):
            caption = self.captions[number] if self.captions is not None else _beside(path)
            label = self.labels[number] if self.labels is not None else None
            yield Entry(str(path), read_bytes(path), label, caption)


def open_folder(path: Path, limit: int | None = None) -> FileSource:
    """The pictures below `path`, by name. Where all lie in sub-folders, at least two, those are classes 0, 1, ...

    A class is the first folder below `path`, in sorted order. Hidden files and folders are left out.
    """
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and not _hidden(file, path))
    places = [file.relative_to(path).parts for file in files]
    classes = sorted({parts[0] for parts in places if len(parts) > 1})
    labelled = len(classes) > 1 and all(len(parts) > 1 for parts in places)
    number = {name: index for index, name in enumerate(classes)}
    keep = evenly(len(files), limit)
    chosen = [index for index in range(len(files)) if keep(index)]
    paths = [files[index] for index in chosen]
    if not labelled:
        return FileSource(str(path), paths)
    return FileSource(str(path), paths, [number[places[index][0]] for index in chosen], classes=tuple(classes))


def read_bytes(path: Path) -> bytes | None:
    """A file's content, None where it cannot be had: `decode` names it."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def _beside(path: Path) -> str | None:
    text = path.with_suffix(".txt")
    return text.read_text(encoding="utf-8", errors="replace").strip() or None if text.is_file() else None
