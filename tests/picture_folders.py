"""Small sets of pictures for tests: coloured discs on a gradient, in classes by colour."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

COLOURS = ("red", "green", "blue")


def disc(number, side=24, mode="RGB"):
    """Picture `number`: one of three colours in turn, its place and size drawn from its number."""
    random = np.random.default_rng(number)
    picture = Image.fromarray(np.tile(np.linspace(90, 160, side).astype(np.uint8), (side, 1))).convert(mode)
    x, y = random.integers(side // 4, 3 * side // 4, 2).tolist()
    radius = int(random.integers(2, side // 4))
    ImageDraw.Draw(picture).ellipse((x - radius, y - radius, x + radius, y + radius), fill=COLOURS[number % 3])
    return picture


def encoded(picture):
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def write_folder(folder, count, first=0, classes=False, side=24):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        place = folder / COLOURS[number % 3] if classes else folder
        place.mkdir(exist_ok=True)
        disc(number, side).save(place / f"{number:04d}.png")
    return folder


def write_parquet(path, count, first=0, side=24):
    numbers = range(first, first + count)
    columns = {
        "image": [encoded(disc(number, side)) for number in numbers],
        "label": [number % 3 for number in numbers],
        "caption": [f"a {COLOURS[number % 3]} apple" for number in numbers],
    }
    pq.write_table(pa.table(columns), path, row_group_size=7)
    return path
