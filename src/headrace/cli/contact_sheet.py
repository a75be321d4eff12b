"""One picture of many: each pair side by side with its request's settings underneath."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

CELL = 96  # pixels that the longer side of a picture is shown at
PAIR_GAP, MARGIN = 4, 14
_INK, _PALE = (25, 30, 36), (105, 115, 125)


@dataclass(frozen=True)
class Pair:
    """Two pictures of one request, what it asked for in a few words, and its settings in a few more."""

    left: Image.Image
    right: Image.Image
    title: str
    subtitle: str


def contact_sheet(pairs: Sequence[Pair], heading: str, columns: int = 6) -> Image.Image:
    """The pairs in reading order on white, under a heading of one or more lines."""
    lines = heading.splitlines()
    width, height = 2 * CELL + PAIR_GAP + MARGIN, CELL + 44
    top = MARGIN + 26 * len(lines)
    rows = -(-len(pairs) // columns)
    sheet = Image.new("RGB", (MARGIN + columns * width, top + rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        size, ink = (18, _INK) if number == 0 else (14, _PALE)
        draw.text((MARGIN, MARGIN + 25 * number), line, font=_font(size), fill=ink)
    for index, pair in enumerate(pairs):
        row, column = divmod(index, columns)
        _draw_pair(sheet, draw, pair, (MARGIN + column * width, top + row * height))
    return sheet


def _draw_pair(sheet: Image.Image, draw: ImageDraw.ImageDraw, pair: Pair, corner: tuple[int, int]) -> None:
    left, top = corner
    for offset, picture in ((0, pair.left), (CELL + PAIR_GAP, pair.right)):
        shown = _fitted(picture)
        draw.rectangle((left + offset, top, left + offset + CELL - 1, top + CELL - 1), fill=(244, 246, 248))
        sheet.paste(shown, (left + offset + (CELL - shown.width) // 2, top + (CELL - shown.height) // 2))
    draw.text((left, top + CELL + 3), pair.title, font=_font(13), fill=_INK)
    draw.text((left, top + CELL + 20), pair.subtitle, font=_font(11), fill=_PALE)


def _fitted(picture: Image.Image) -> Image.Image:
    factor = CELL / max(picture.size)
    width, height = (max(1, round(side * factor)) for side in picture.size)
    return picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
