"""Pictures that carry the settings they were made with: a text chunk in PNG, EXIF in JPEG and WebP."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Literal

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from headrace.pictures.decoding import PICTURE_FAULTS
from headrace.software import software

PictureFormat = Literal["png", "jpeg", "webp"]
KEYWORD = "headrace"
# Of a user comment in EXIF: 8 bytes that name its encoding. All 0: undefined, which is what UTF-8 is to the standard.
_UNDEFINED = b"\0" * 8
_MOST_EXIF = 60_000  # bytes; a JPEG's segment holds 65,533
# Where settings do not fit into EXIF, these are left out, in this order.
_LONG = ("negative_prompt", "prompt")


def save_labelled(
    target: Path | IO[bytes],
    image: Image.Image,
    settings: Mapping[str, Any],
    picture_format: PictureFormat = "png",
    quality: int = 95,
) -> None:
    """Writes a picture with `settings` as JSON in it; `quality`, 0 to 100, is for JPEG and WebP."""
    if picture_format == "png":
        info = PngInfo()
        info.add_text(KEYWORD, json.dumps(settings, ensure_ascii=False))
        info.add_text("Software", f"Headrace {software()}")
        image.save(target, format="PNG", pnginfo=info)
    else:
        image.save(target, format=picture_format.upper(), quality=quality, exif=_exif(settings))


def encode_labelled(
    image: Image.Image, settings: Mapping[str, Any], picture_format: PictureFormat = "png", quality: int = 95
) -> bytes:
    """The same into memory."""
    buffer = io.BytesIO()
    save_labelled(buffer, image, settings, picture_format, quality)
    return buffer.getvalue()


def read_label(path: Path | IO[bytes]) -> dict[str, Any] | None:
    """The settings that a whole picture carries; None for a file that is missing, damaged or not from here."""
    try:
        with Image.open(path) as picture:
            # Both stand before the pixels.
            text = picture.info.get(KEYWORD) if isinstance(picture, PngImageFile) else _comment(picture)
            picture.verify()  # reads every chunk and checks its sum, so a half-written file does not pass
        settings = json.loads(text) if text else None
    except PICTURE_FAULTS:
        return None
    return settings if isinstance(settings, dict) else None


def _exif(settings: Mapping[str, Any]) -> Image.Exif:
    kept = dict(settings)
    label = json.dumps(kept, ensure_ascii=False).encode()
    for name in _LONG:
        if len(label) > _MOST_EXIF:
            kept.pop(name, None)
            label = json.dumps(kept, ensure_ascii=False).encode()
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = f"Headrace {software()}"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = _UNDEFINED + label
    return exif


def _comment(picture: Image.Image) -> str | None:
    comment = picture.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    return comment.removeprefix(_UNDEFINED).decode() if isinstance(comment, bytes) else None
