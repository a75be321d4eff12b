"""Pictures on disk: PNG files that carry the settings they were made with, whole or not there at all."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from headrace.errors import OutputError
from headrace.files import write_file
from headrace.pictures.labelled import read_label, save_labelled

# What a picture depends on. The plan's digest stands for solver and steps as they were really run; the guidance scale
# is told to a distilled network, whose plan does not hold it.
IDENTITY = (
    "model", "weights", "dtype", "prompt", "negative_prompt", "class_label", "guidance_scale", "plan", "height",
    "width", "seed",
)  # fmt: skip
# These as well where they are set; names of pictures without them do not change. "picture": which one of those that
# a fused autoencoder makes of one request.
TECHNIQUES = ("block_cache", "acceleration", "picture")


def file_name(settings: Mapping[str, Any], name: str | None = None) -> str:
    """`red-apple-7-1f0c9a3b52d4.png`: name or prompt, seed, and a digest of all that the picture depends on.

    The second of several pictures of one request is `red-apple-7-1-`...: they are counted from 0.
    """
    used = [key for key in TECHNIQUES if settings.get(key) is not None]
    identity = json.dumps({key: settings.get(key) for key in (*IDENTITY, *used)}, sort_keys=True)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    number = f"-{settings['picture']}" if settings.get("picture") is not None else ""
    return f"{name or slug(settings.get('prompt'))}-{settings['seed']}{number}-{digest}.png"


def slug(text: str | None) -> str:
    """A text for a file name: lower-case ASCII letters, digits, hyphens, at most 40; 'picture' where none is left."""
    plain = unicodedata.normalize("NFKD", text or "").encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:40].strip("-") or "picture"


def write_picture(path: Path, image: Image.Image, settings: Mapping[str, Any]) -> None:
    """Write a PNG with `settings` as JSON in its text chunk 'headrace', by rename. Raises `OutputError`."""
    write_file(path, lambda temporary: save_labelled(temporary, image, settings))


def read_settings(path: Path) -> dict[str, Any] | None:
    """The settings that a whole picture carries; None for a file that is missing, damaged or not from here."""
    return read_label(path)


def is_made(path: Path, settings: Mapping[str, Any]) -> bool:
    """Whether `path` is a whole picture of exactly these settings."""
    found = read_settings(path)
    return found is not None and all(found.get(key) == settings.get(key) for key in (*IDENTITY, *TECHNIQUES))


def prepare_folder(folder: Path, room: int) -> None:
    """Make sure that pictures can be written: creates the folder, tries a file in it, and looks for `room` bytes free.

    Raises `OutputError`.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{str(folder)!r} is a file, and pictures need a folder", "Give another folder with --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputError(
            f"{str(folder)!r} cannot be written to: {error.strerror or error}", "Give another folder with --out"
        ) from None
    if free < room:
        raise OutputError(
            f"{str(folder)!r} has {free / 1e6:.1f} MB free, and the first pictures may need {room / 1e6:.1f} MB",
            "Free some space, or give another folder with --out",
        )
