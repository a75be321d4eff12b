"""From encoded pictures to pixels."""

from __future__ import annotations

import io
import os
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from headrace.errors import DataError
from headrace.pictures.entry import Entry

Crop = Literal["centre", "resize"]
Size = tuple[int, int]
Decoded = tuple[Entry, np.ndarray | DataError]
# What Pillow raises for bytes that are no picture, or no whole one (`UnidentifiedImageError` is an `OSError`).
PICTURE_FAULTS = (OSError, SyntaxError, ValueError, TypeError, EOFError, struct.error, Image.DecompressionBombError)
# The same for notes beside the pixels: no damage to the picture. Damaged pixels show when they are read.
_NOTE_FAULTS = (SyntaxError, ValueError, TypeError, KeyError, struct.error)
_SIDES_SWAPPED = frozenset({5, 6, 7, 8})  # EXIF orientations
# One task: so many pictures that handing it over costs little beside small ones, and not many large ones.
_MOST_TOGETHER = 32
_MOST_BYTES = 1 << 20
_MOST_THREADS = 8


def decode(entry: Entry, size: Size | None = None, crop: Crop = "centre") -> np.ndarray:
    """uint8 [H, W, 3], upright by its EXIF orientation, what is transparent on white.

    `size` (height, width) is what it is brought to with a Lanczos filter, cut to its shape in the centre before or,
    with crop "resize", stretched. Raises `DataError` naming the entry where it is no whole picture.
    """
    if entry.encoded is None:
        raise DataError(f"{entry.name} cannot be read", "Restore it, or remove it from the set")
    try:
        with Image.open(io.BytesIO(entry.encoded)) as opened:
            picture = _opaque(_upright(opened))
    except UnidentifiedImageError:
        raise DataError(f"{entry.name} is no picture of a known format", "Remove it from the set") from None
    except PICTURE_FAULTS as error:
        raise DataError(f"{entry.name} is not a whole picture: {error}", "Remove it from the set") from None
    return np.asarray(picture if size is None else _brought_to(picture, size, crop))


def upright_size(entry: Entry) -> Size | None:
    """(height, width) that `decode` gives it where none is asked for, by its header; None where there is none to read.

    A whole header does not make a whole picture.
    """
    try:
        with Image.open(io.BytesIO(entry.encoded or b"")) as opened:
            width, height = opened.size
            return (width, height) if _orientation(opened) in _SIDES_SWAPPED else (height, width)
    except PICTURE_FAULTS:
        return None


def decode_all(entries: Iterable[Entry], size: Size | None = None, crop: Crop = "centre") -> Iterator[Decoded]:
    """Every entry in order, with its pixels or the error that `decode` raised. A few threads work ahead."""
    threads = min(_MOST_THREADS, _cores())
    tasks = _grouped(entries)
    ahead: deque[Future[list[Decoded]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        for group in tasks:
            ahead.append(pool.submit(_decode_each, group, size, crop))
            if len(ahead) > 2 * threads:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)  # nobody may want the rest


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _grouped(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    group: list[Entry] = []
    held = 0
    for entry in entries:
        group.append(entry)
        held += len(entry.encoded or b"")
        if len(group) == _MOST_TOGETHER or held >= _MOST_BYTES:
            yield group
            group, held = [], 0
    if group:
        yield group


def _decode_each(entries: list[Entry], size: Size | None, crop: Crop) -> list[Decoded]:
    return [(entry, _pixels_or_error(entry, size, crop)) for entry in entries]


def _pixels_or_error(entry: Entry, size: Size | None, crop: Crop) -> np.ndarray | DataError:
    try:
        return decode(entry, size, crop)
    except DataError as error:
        return error


def _upright(picture: Image.Image) -> Image.Image:
    if _orientation(picture) == 1:
        return picture
    try:
        return ImageOps.exif_transpose(picture)
    except _NOTE_FAULTS:
        return picture


def _orientation(picture: Image.Image) -> object:
    """EXIF's, 1 to 8, as the file has it; 1, upright, where there is none or it cannot be read."""
    try:
        return picture.getexif().get(ExifTags.Base.Orientation, 1)
    except _NOTE_FAULTS:
        return 1


def _opaque(picture: Image.Image) -> Image.Image:
    """In RGB, on white where it is transparent. 16-bit grey keeps its upper byte: Pillow would clip it."""
    if picture.mode.startswith("I"):
        values = np.asarray(picture).clip(0, 65535) >> 8
        return Image.fromarray(values.astype(np.uint8)).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    canvas = Image.new("RGBA", picture.size, "white")
    canvas.alpha_composite(picture.convert("RGBA"))
    return canvas.convert("RGB")


def _brought_to(picture: Image.Image, size: Size, crop: Crop) -> Image.Image:
    """A picture of that size stays as it is."""
    height, width = size
    if picture.size == (width, height):
        return picture
    return (_centre(picture, size) if crop == "centre" else picture).resize((width, height), Image.Resampling.LANCZOS)


def _centre(picture: Image.Image, size: Size) -> Image.Image:
    """The largest centred part with the shape of `size`."""
    height, width = size
    scale = max(width / picture.width, height / picture.height)
    cut_width, cut_height = max(1, round(width / scale)), max(1, round(height / scale))
    left, top = (picture.width - cut_width) // 2, (picture.height - cut_height) // 2
    return picture.crop((left, top, left + cut_width, top + cut_height))
