"""What the files of a model folder tell without loading them: parameters, bytes, default size."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from safetensors import safe_open

from headrace.models.pipelines.fingerprint import weight_files
from headrace.models.pipelines.folder import ModelFolder


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
    # A fused network holds the configuration of the one it is made of.
    size = network.get("sample_size") or network.get("unet", {}).get("sample_size")
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    autoencoder = _config(folder, "vae") or _config(folder, "vqvae")
    factor = 2 ** (len(autoencoder.get("block_out_channels", [0])) - 1)
    return height * factor, width * factor


def fusion_factors(folder: ModelFolder) -> tuple[int, ...]:
    """K's that the model has networks for: images that share an evaluation."""
    return tuple(_config(folder, "unet").get("factors") or (1,))


def solver(folder: ModelFolder) -> str:
    """Class name of the diffusers scheduler that the model comes with."""
    return folder.parts.get("scheduler", "")


def _config(folder: ModelFolder, part: str) -> dict[str, Any]:
    file = folder.path / part / "config.json"
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return content
