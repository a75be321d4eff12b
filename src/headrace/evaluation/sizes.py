"""The sizes of a set's pictures, and what is said where they differ."""

from __future__ import annotations

from headrace.errors import DataError
from headrace.pictures.decoding import Size, decode, upright_size
from headrace.pictures.entry import PictureSource


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
    sizes = [upright_size(entry) for entry in samples.entries()]
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
