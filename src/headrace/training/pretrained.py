"""A trained text-to-image model as the start of a phase: all its parts, in float32."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors import SafetensorError
from transformers import CLIPTextModel, CLIPTokenizer

from headrace.errors import RecipeError
from headrace.files import write_folder
from headrace.models.pipelines.folder import find
from headrace.techniques.fusebatch.text_network import FuseBatchUNet2DConditionModel
from headrace.training.export import TEXT_TO_IMAGE, save_component
from headrace.training.spaces.autoencoders import read_autoencoder

_NETWORKS: dict[str, Any] = {one.__name__: one for one in (UNet2DConditionModel, FuseBatchUNet2DConditionModel)}


@dataclass(frozen=True)
class Pretrained:
    """The parts of a Stable Diffusion. `solver`: the options of its scheduler, by name."""

    autoencoder: Any
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel | FuseBatchUNet2DConditionModel
    solver: Mapping[str, Any]


def read_pretrained(path_or_name: str) -> Pretrained:
    """The parts of a diffusers folder, of an embedded model, or of the working folder of a run.

    Raises `ModelNotFoundError`, and `RecipeError` where a part is absent, damaged or of another family.
    """
    folder = find(path_or_name)
    absent = [part for part in TEXT_TO_IMAGE if not (folder / part).is_dir()]
    if absent:
        raise _unusable(path_or_name, f"has no {', '.join(absent)}")
    loading: dict[str, Any] = {"local_files_only": True, "use_safetensors": True}
    try:
        kind = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))["_class_name"]
        if kind not in _NETWORKS:
            raise _unusable(path_or_name, f"denoises with a {kind}")
        solver = json.loads((folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
        text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32, **loading)
        unet = _NETWORKS[kind].from_pretrained(folder / "unet", torch_dtype=torch.float32, **loading)
        return Pretrained(
            autoencoder=_owned(read_autoencoder(folder)),
            tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
            text_encoder=_owned(text_encoder),
            unet=_owned(unet),
            solver={key: value for key, value in solver.items() if not key.startswith("_")},
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise _unusable(path_or_name, f"cannot be read: {error}") from None


def _owned(network: Any) -> Any:
    """The network with tensors in memory of their own.

    In a mapped file they lie wherever its header ends, and kernels that take their steps from the address then give
    sums with another last digit: a run that continues from its own folder would leave the course of an unbroken one.
    """
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.data = tensor.data.clone()
    return network


def copy_frozen_parts(path_or_name: str, pretrained: Pretrained, folder: Path) -> None:
    """Put autoencoder and tokenizer into the working folder of a run, where an export finds them."""
    tokenizer = find(path_or_name) / "tokenizer"
    if tokenizer.resolve() == (folder / "tokenizer").resolve():
        return  # a run that continues
    write_folder(folder / "tokenizer", lambda path: shutil.copytree(tokenizer, path, dirs_exist_ok=True))
    save_component(pretrained.autoencoder, folder / "vae")


def _unusable(path_or_name: str, fault: str) -> RecipeError:
    return RecipeError(f"initial = {path_or_name!r} {fault}", "Name the folder of a Stable Diffusion")
