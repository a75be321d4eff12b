"""Pictures decoded once: into memory, or into a file that is found again by what it was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from headrace.errors import DataError, OutputError
from headrace.files import write_folder
from headrace.pictures.array_file import ArrayFile
from headrace.pictures.decoding import decode_all
from headrace.pictures.entry import Entry, PictureSource
from headrace.pictures.source import digest_entries
from headrace.training.decoding_bar import DecodingBar
from headrace.training.tables.data import DataTable

_VERSION = "1"  # of decoding, scaling and of the files
_PIXELS = "pixels.npy"
_SKIPPED = "skipped.json"
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of a picture beside its pixels. `label` is what the set says, whatever that is."""

    name: str
    caption: str
    label: object


@dataclass(frozen=True)
class Decoded:
    """`pixels`: uint8 [N, 3, size, size]; `rows`: N of them. `skipped`: why others of the set are not here."""

    pixels: np.ndarray
    rows: tuple[Row, ...]
    skipped: tuple[str, ...]


def decode_into_memory(source: PictureSource, table: DataTable) -> Decoded:
    """Raises `DataError` where too many pictures are corrupt, or memory is too small for the rest."""
    most = len(source)
    try:
        pixels = np.empty((most, 3, table.size, table.size), dtype=np.uint8)
    except MemoryError:
        need = f"{most} pictures of {table.size} pixels need {most * 3 * table.size**2 / 1e9:.1f} GB of memory"
        raise DataError(need, "Give a folder for them: data.memory_map=FOLDER") from None
    rows: list[Row] = []
    skipped: dict[int, str] = {}
    for row, picture in _good(source, table, skipped):
        pixels[len(rows)] = picture
        rows.append(row)
    return Decoded(pixels[: len(rows)], tuple(rows), tuple(skipped.values()))


def decode_into_file(source: PictureSource, table: DataTable, folder: Path) -> Decoded:
    """Mapped from a file below `folder`, that is written where it is not there yet, and named by a digest of content.

    The mapping is private: what is written to `pixels` never reaches the file. Raises `DataError` where too many
    pictures are corrupt, `OutputError` where the file cannot be written.
    """
    rows: list[Row] = []
    with DecodingBar(f"looking through {source.name}", len(source)) as bar:
        content = digest_entries(_noted(source, rows, bar.advance))
    parts = (_VERSION, content, str(table.size), table.crop)
    place = folder / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    found = _open(place, rows)
    if found is None:
        try:
            write_folder(place, lambda temporary: _write(temporary, source, table))
        except OutputError as error:
            found = _open(place, rows)  # another process of the same run may have put it there first
            if found is None:
                raise OutputError(error.problem, "Free some space, or change data.memory_map") from None
        found = found or _open(place, rows)
    if found is None:
        raise DataError(f"{source.name} changed while it was read", "Start again when nobody writes to it")
    check_corrupt(source.name, found.skipped, len(rows), table.max_corrupt)
    return found


def check_corrupt(name: str, skipped: Collection[str], total: int, most: float) -> None:
    """Raises `DataError` that names the first few where more than the fraction `most` of `total` were skipped."""
    if len(skipped) <= most * total:
        return
    first = "; ".join(islice(skipped, _NAMED)) + ("; ..." if len(skipped) > _NAMED else "")
    problem = f"{name}: more than {most:.1%} of {total} pictures are corrupt, {len(skipped)} so far: {first}"
    raise DataError(problem, "Mend the data set, or put up with it: data.max_corrupt is a fraction of the set")


def _good(source: PictureSource, table: DataTable, skipped: dict[int, str]) -> Iterator[tuple[Row, np.ndarray]]:
    """Row and pixels [3, size, size] of every picture that can be decoded; number and reason of others: `skipped`."""
    most, total = len(source), 0
    with DecodingBar(f"decoding {source.name}", most) as bar:
        for entry, pixels in decode_all(source.entries(), (table.size, table.size), table.crop):
            if isinstance(pixels, np.ndarray):
                yield _row(entry), pixels.transpose(2, 0, 1)
            else:
                skipped[total] = pixels.problem
                check_corrupt(source.name, skipped.values(), most, table.max_corrupt)
            total += 1
            bar.advance()
    check_corrupt(source.name, skipped.values(), total, table.max_corrupt)


def _row(entry: Entry) -> Row:
    return Row(entry.name, entry.caption or "", entry.label)


def _noted(source: PictureSource, rows: list[Row], advance: Callable[[], None]) -> Iterator[Entry]:
    for entry in source.entries():
        rows.append(_row(entry))
        advance()
        yield entry


def _write(folder: Path, source: PictureSource, table: DataTable) -> None:
    skipped: dict[int, str] = {}
    with ArrayFile(folder / _PIXELS, np.dtype(np.uint8), (3, table.size, table.size)) as file:
        for _, picture in _good(source, table, skipped):
            file.append(picture[None])
    (folder / _SKIPPED).write_text(json.dumps(skipped), encoding="utf-8")


def _open(folder: Path, rows: Sequence[Row]) -> Decoded | None:
    """What lies in `folder`, None where it is not there, damaged, or not of these rows."""
    try:
        skipped = {int(key): str(reason) for key, reason in json.loads((folder / _SKIPPED).read_text("utf-8")).items()}
        pixels = np.lib.format.open_memmap(folder / _PIXELS, mode="c")
    except (OSError, ValueError, AttributeError):
        return None
    kept = tuple(row for number, row in enumerate(rows) if number not in skipped)
    return Decoded(pixels, kept, tuple(skipped.values())) if len(pixels) == len(kept) else None
