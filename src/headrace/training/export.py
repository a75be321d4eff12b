"""Trained components into a diffusers folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DDPMPipeline, DiffusionPipeline, LDMPipeline, StableDiffusionPipeline
from transformers import CLIPTextModel, CLIPTokenizer

import headrace
from headrace.errors import TrainingError
from headrace.files import write_folder
from headrace.models.pipelines.parts import stands_for

TEXT_TO_IMAGE = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
LATENT = ("vae", "unet", "scheduler")
PIXEL = ("unet", "scheduler")


def save_component(component: Any, folder: Path) -> None:
    """Save anything with `save_pretrained` (network, tokenizer, solver) at `folder`, by rename."""
    write_folder(folder, component.save_pretrained)


def is_complete(model: Path) -> bool:
    """Whether every component of a pipeline stands in the working folder."""
    return not _missing(model)


def export_pipeline(
    model: Path, destination: Path, dtype: torch.dtype = torch.float16, record: Mapping[str, Any] | None = None
) -> int:
    """The working folder's float32 components as one diffusers folder; its size in bytes.

    A `DDPMPipeline` where the network denoises pixels, an `LDMPipeline` where it denoises latents without text, else a
    `StableDiffusionPipeline`. Raises `TrainingError` when a component is missing. A model card that stands in the
    destination is kept. `record`: what is written beside it as training.json.
    """
    missing = _missing(model)
    if missing:
        raise TrainingError(f"{str(model)!r} has no {', '.join(missing)}", "Run the phases that make them first")
    pipeline = _pipeline(model, dtype)
    card = destination / "README.md"
    text = card.read_text(encoding="utf-8") if card.exists() else None

    def write(path: Path) -> None:
        pipeline.save_pretrained(path)
        if "tokenizer" in _parts(model):
            _copy_tokenizer(model / "tokenizer", path / "tokenizer")
        _tidy_configs(path)
        if text is not None:
            (path / "README.md").write_text(text, encoding="utf-8")
        if record is not None:
            (path / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    write_folder(destination, write)
    return folder_bytes(destination)


def _parts(model: Path) -> tuple[str, ...]:
    """The components of the pipeline that the working folder is on the way to."""
    config = model / "unet" / "config.json"
    if not config.exists() or stands_for(_class_name(config)) != "UNet2DModel":
        return TEXT_TO_IMAGE
    return LATENT if (model / "vae").is_dir() else PIXEL


def _missing(model: Path) -> list[str]:
    return [name for name in _parts(model) if not (model / name).is_dir()]


def _pipeline(model: Path, dtype: torch.dtype) -> DiffusionPipeline:
    parts = {name: _component(model / name, dtype) for name in _parts(model)}
    if "tokenizer" in parts:
        without = {"safety_checker": None, "feature_extractor": None, "image_encoder": None}
        return StableDiffusionPipeline(**parts, **without, requires_safety_checker=False)
    if "vae" in parts:
        return LDMPipeline(vqvae=parts["vae"], unet=parts["unet"], scheduler=parts["scheduler"])
    return DDPMPipeline(**parts)


def _component(folder: Path, dtype: torch.dtype) -> Any:
    if folder.name == "tokenizer":
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    if folder.name == "text_encoder":
        return CLIPTextModel.from_pretrained(folder, dtype=dtype, local_files_only=True)
    if folder.name == "scheduler":
        kind = _class_name(folder / "scheduler_config.json")
        return getattr(diffusers, kind).from_pretrained(folder, local_files_only=True)
    kind = _class_name(folder / "config.json")
    library = diffusers if hasattr(diffusers, kind) else headrace
    return getattr(library, kind).from_pretrained(folder, torch_dtype=dtype, local_files_only=True)


def _class_name(config: Path) -> str:
    return str(json.loads(config.read_text(encoding="utf-8"))["_class_name"])


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _copy_tokenizer(source: Path, destination: Path) -> None:
    """CLIP's own files and nothing else, so that every version of transformers reads the same merges."""
    for path in destination.iterdir():
        path.unlink()
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (destination / name).write_bytes((source / name).read_bytes())


def _tidy_configs(folder: Path) -> None:
    """Remove the path of the training machine that `save_pretrained` puts into configurations."""
    for path in folder.rglob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and "_name_or_path" in content:
            del content["_name_or_path"]
            path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
