"""What the files of a model folder tell without loading them: parameters, bytes, default size, a fingerprint."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from safetensors import safe_open

from headrace.models.pipelines.folder import ModelFolder

_ENDS = 64 << 10


def weight_files(folder: ModelFolder) -> list[Path]:
    """The safetensors files that loading this folder would read."""
    files = [file for part in folder.parts for file in sorted((folder.path / part).glob("*.safetensors"))]
    return [file for file in files if (".fp16." in file.name) == (folder.variant == "fp16")]


def parameters(folder: ModelFolder) -> int:
    """Parameters of all parts, from the headers of their weights."""
    total = 0
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as opened:
            total += sum(math.prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118
    return total


def size_on_disk(path: Path) -> int:
    """Bytes of every file below `path`."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def default_size(folder: ModelFolder) -> tuple[int, int] | None:
    """(height, width) in pixels that the model was trained at; None where its configurations do not say."""
    network = _config(folder, "transformer") or _config(folder, "unet")
    size = network.get("sample_size")
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    autoencoder = _config(folder, "vae") or _config(folder, "vqvae")
    factor = 2 ** (len(autoencoder.get("block_out_channels", [0])) - 1)
    return height * factor, width * factor


def solver(folder: ModelFolder) -> str:
    """Class name of the diffusers scheduler that the model comes with."""
    return folder.parts.get("scheduler", "")


def _config(folder: ModelFolder, part: str) -> dict[str, Any]:
    file = folder.path / part / "config.json"
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return content


def fingerprint(folder: ModelFolder) -> str:
    """A digest that differs for models of different weights, configurations or vocabularies.

    Of large files only length, beginning and end are read: training moves every tensor, so those tell models apart.
    """
    hasher = hashlib.sha256()
    chosen = set(weight_files(folder))
    files = [file for part in sorted(folder.parts) for file in sorted((folder.path / part).glob("*")) if file.is_file()]
    for file in [folder.path / "model_index.json", *files]:
        if file.suffix != ".safetensors" or file in chosen:
            hasher.update(f"{file.relative_to(folder.path)}:{file.stat().st_size}:".encode())
            hasher.update(_ends(file))
    return hasher.hexdigest()[:16]


def _ends(file: Path) -> bytes:
    with file.open("rb") as opened:
        beginning = opened.read(_ENDS)
        opened.seek(max(file.stat().st_size - _ENDS, 0))
        return beginning + opened.read(_ENDS)
