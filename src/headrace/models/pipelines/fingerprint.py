"""A digest that tells models apart: what a calibration, or a finished picture, belongs to."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from headrace.models.pipelines.base import Pipeline
from headrace.models.pipelines.folder import ModelFolder, inspect

_ENDS = 64 << 10
_VALUES = 8


def weight_files(folder: ModelFolder) -> list[Path]:
    """The safetensors files that loading this folder would read."""
    files = [file for part in folder.parts for file in sorted((folder.path / part).glob("*.safetensors"))]
    return [file for file in files if (".fp16." in file.name) == (folder.variant == "fp16")]


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


def pipeline_fingerprint(pipeline: Pipeline) -> str:
    """The `fingerprint` of the folder that a pipeline was loaded from.

    For one that was put together in memory, a digest of its network: class, configuration, and the first values of
    every parameter.
    """
    source = getattr(pipeline.components, "name_or_path", None)
    if source and (Path(source) / "model_index.json").is_file():
        return fingerprint(inspect(source))
    network: Any = pipeline.network
    config = sorted((key, repr(value)) for key, value in dict(network.config).items() if not key.startswith("_"))
    hasher = hashlib.sha256(f"{type(network).__name__}{config}".encode())
    # Names are left out: a wrapper in the module tree changes them.
    for parameter in network.parameters():
        values = parameter.detach().flatten()[:_VALUES].to("cpu", torch.float32)
        hasher.update(f"{tuple(parameter.shape)}".encode() + values.numpy().tobytes())
    return hasher.hexdigest()[:16]
