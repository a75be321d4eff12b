"""Trained scale and shift as a safetensors file beside the cache schedule that they were trained for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from headrace.errors import ArtefactError, OutputError
from headrace.files import write_file
from headrace.software import software
from headrace.techniques.block_caching.artefact import BlockCacheArtefact
from headrace.techniques.block_caching.scale_shift import ScaleShift

FILE_NAME = "scale_shift.safetensors"
KIND = "block cache scale-shift"
_AGAIN = "Train it again with headrace calibrate scale-shift, or remove the file"

# What a file must agree on with the artefact that it is used with, and how a person calls it.
_MUST_AGREE = {
    "weights": "a model",
    "blocks": "blocks",
    "solver": "a solver",
    "steps": "a number of steps",
    "schedule": "a cache schedule",
}


def save_scale_shift(
    scale_shift: ScaleShift, artefact: BlockCacheArtefact, path: Path, figures: Mapping[str, float] | None = None
) -> None:
    """Writes the layers in float32 with what they were trained for, by rename. Raises `OutputError`.

    `figures`: what was measured of them, by name.
    """
    tensors: dict[str, torch.Tensor] = {}
    for block, layer in zip(artefact.blocks, scale_shift.layers, strict=True):
        tensors |= {f"{block}.{name}": value.detach().float().cpu() for name, value in layer.named_parameters()}
    metadata = {
        "kind": KIND, "model": artefact.model, **_identity(artefact), "width": str(scale_shift.width),
        "figures": json.dumps(dict(figures or {})), "headrace": software(),
    }  # fmt: skip
    try:
        write_file(path, lambda temporary: save_file(tensors, temporary, metadata))
    except SafetensorError as error:  # what a full disk is to safetensors
        raise OutputError(f"{str(path)!r} cannot be written: {error}", "Free some space and try again") from None


def load_scale_shift(path: Path, artefact: BlockCacheArtefact) -> ScaleShift:
    """The layers in a file. Raises `ArtefactError`: unreadable, damaged, or trained for another model or schedule."""
    metadata, tensors = _read(path)
    if metadata.get("kind") != KIND:
        raise ArtefactError(f"{str(path)!r} is no {KIND} file", "Give the file that headrace calibrate wrote")
    expected = _identity(artefact)
    for name, what in _MUST_AGREE.items():
        if metadata.get(name) != expected[name]:
            raise ArtefactError(
                f"{str(path)!r} was trained for {what} other than the schedule's: {name} {_short(metadata.get(name))}, "
                f"not {_short(expected[name])}",
                _AGAIN,
            )
    return _build(path, artefact, metadata.get("width", ""), tensors)


def find_scale_shift(schedule: Path, artefact: BlockCacheArtefact) -> ScaleShift | None:
    """What lies beside a schedule's file; None where nothing does. Raises `ArtefactError` as `load_scale_shift`."""
    path = schedule.expanduser().with_name(FILE_NAME)
    return load_scale_shift(path, artefact) if path.exists() else None


def _identity(artefact: BlockCacheArtefact) -> dict[str, str]:
    return {
        "weights": artefact.weights,
        "blocks": json.dumps(artefact.blocks),
        "solver": artefact.solver,
        "steps": str(artefact.steps),
        "schedule": artefact.identity,
    }


def _read(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArtefactError(
            f"{str(path)!r} cannot be read: {reason}", "Train it with headrace calibrate scale-shift"
        ) from None


def _build(path: Path, artefact: BlockCacheArtefact, width: str, tensors: Mapping[str, torch.Tensor]) -> ScaleShift:
    names = [f"{block}.{name}" for block in artefact.blocks for name in ("weight", "bias")]
    if not width.isdigit() or sorted(names) != sorted(tensors):
        raise ArtefactError(f"{str(path)!r} does not hold one layer a block", _AGAIN)
    channels = []
    for block in artefact.blocks:
        weight, bias = tensors[f"{block}.weight"], tensors[f"{block}.bias"]
        if weight.dim() != 2 or weight.shape[1] != int(width) or bias.shape != weight.shape[:1] or len(bias) % 2:
            raise ArtefactError(
                f"{str(path)!r}: the layer of {block} is {list(weight.shape)}, not [2 C, {width}]", _AGAIN
            )
        if not (torch.isfinite(weight).all() and torch.isfinite(bias).all()):
            raise ArtefactError(f"{str(path)!r}: the layer of {block} is not finite", _AGAIN)
        channels.append(len(bias) // 2)
    scale_shift = ScaleShift(channels, int(width))
    for block, layer in zip(artefact.blocks, scale_shift.layers, strict=True):
        layer.load_state_dict({name: tensors[f"{block}.{name}"] for name in ("weight", "bias")})
    return scale_shift


def _short(text: str | None) -> str:
    return "none" if text is None else text if len(text) <= 60 else f"{text[:57]}..."
