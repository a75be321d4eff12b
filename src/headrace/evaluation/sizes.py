"""The sizes of a set's pictures, and what is said where they differ."""

from __future__ import annotations

import io

from PIL import ExifTags, Image

from headrace.errors import DataError
from headrace.pictures.decoding import decode
from headrace.pictures.entry import Entry, PictureSource

Size = tuple[int, int]
_TURNED = frozenset({5, 6, 7, 8})  # EXIF orientations that swap the sides


def first_size(source: PictureSource) -> Size:
    """(height, width) of the first picture that can be decoded. Raises `DataError` where none can."""
    for entry in source.entries():
        try:
            pixels = decode(entry)
        except DataError:
            continue
        return pixels.shape[0], pixels.shape[1]
    raise DataError(f"{source.name} holds no readable picture", "Give other pictures")


def size_warnings(samples: PictureSource, data: PictureSource | None, size: Size) -> list[str]:
    """What is said of pictures that are brought to `size`, the first sample's. Only headers of the samples are read."""
    height, width = size
    found = []
    sizes = [_size(entry) for entry in samples.entries()]
    others = sum(one not in (None, size) for one in sizes)
    if others:
        found.append(f"{others} of {len(sizes)} samples are not {width} x {height} pixels as the first, and are scaled")
    of_data = size if data is None else first_size(data)
    if of_data != size:
        found.append(
            f"pictures of the data set are brought from {of_data[1]} x {of_data[0]} (the first) to the samples' "
            f"{width} x {height} pixels: figures follow the scaling too"
        )
    return found


def _size(entry: Entry) -> Size | None:
    """(height, width) from the header; None where there is none to read, which extraction names."""
    try:
        with Image.open(io.BytesIO(entry.encoded or b"")) as opened:
            width, height = opened.size
            turned = opened.getexif().get(ExifTags.Base.Orientation) in _TURNED
    except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError):
        return None
    return (width, height) if turned else (height, width)
