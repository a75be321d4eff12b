"""From a folder or an embedded name to a pipeline."""

from __future__ import annotations

import inspect as python_inspect
from pathlib import Path
from typing import Any

import torch

from headrace.errors import CorruptModelError, ModelError, UnsupportedModelError
from headrace.models.pipelines.base import Pipeline
from headrace.models.pipelines.folder import OWN_LIBRARY, UNUSED_PARTS, ModelFolder, inspect
from headrace.models.pipelines.latent import DiTPipeline, LatentDiffusionPipeline
from headrace.models.pipelines.parts import load_part, quiet, stands_for
from headrace.models.pipelines.pixel import PixelPipeline
from headrace.models.pipelines.text import (
    LatentConsistencyPipeline,
    PixArtPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)

FAMILIES: dict[str, type[Pipeline]] = {
    "DDPMPipeline": PixelPipeline,
    "DDIMPipeline": PixelPipeline,
    "LDMPipeline": LatentDiffusionPipeline,
    "DiTPipeline": DiTPipeline,
    "StableDiffusionPipeline": StableDiffusionPipeline,
    "LatentConsistencyModelPipeline": LatentConsistencyPipeline,
    "StableDiffusionXLPipeline": StableDiffusionXLPipeline,
    "PixArtAlphaPipeline": PixArtPipeline,
}


def load(
    path_or_name: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Pipeline:
    """The pipeline of a local diffusers folder (safetensors only) or of an embedded name.

    Nothing is downloaded and no code of the folder is run.
    Raises `ModelError`: not found, unsupported, corrupt, pickled.
    """
    folder = inspect(path_or_name)
    family = FAMILIES.get(folder.class_name)
    if family is None:
        raise UnsupportedModelError(
            f"{folder.name} is a {folder.class_name}, a family that Headrace has no adapter for",
            f"Supported: {', '.join(sorted(FAMILIES))}",
        )
    network = folder.parts.get("transformer") or folder.parts.get("unet")
    if network is None or stands_for(network) not in family.networks:
        raise UnsupportedModelError(
            f"{folder.name} denoises with a {network}, which Headrace cannot call in a {folder.class_name}",
            f"Supported there: {', '.join(sorted(family.networks))}",
        )
    target = _device(device)
    pipeline = family(load_components(folder, dtype), folder.name)
    pipeline.check_model()
    _move(pipeline, target)
    return pipeline


def load_components(folder: ModelFolder, dtype: torch.dtype = torch.float32) -> Any:
    """The diffusers pipeline of an inspected folder, with the settings that its `model_index.json` holds.

    Raises `UnsupportedModelError` and `CorruptModelError`.
    """
    import diffusers

    with quiet():  # importing a pipeline's module makes transformers advise on packages that no picture needs
        pipeline_class = getattr(diffusers, folder.class_name)
    taken = set(python_inspect.signature(pipeline_class).parameters)
    given: dict[str, Any] = dict.fromkeys(UNUSED_PARTS & taken)
    if "requires_safety_checker" in taken:
        given["requires_safety_checker"] = False
    absent = _required(pipeline_class) - set(folder.parts) - set(given)
    if absent:
        raise CorruptModelError(
            f"the model_index.json of {folder.path} names no {' and no '.join(sorted(absent))}",
            f"Restore the parts that a {folder.class_name} has",
        )
    given |= {part: load_part(folder, part, dtype) for part in folder.parts if part in taken}
    with quiet():
        try:
            components = _assembled(pipeline_class, folder, given)
        except (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError) as error:
            raise CorruptModelError(
                f"the parts of {folder.path} do not make a {folder.class_name}: {str(error).strip().splitlines()[0]}",
                "Check its model_index.json",
            ) from error
    components.set_progress_bar_config(disable=True)
    return components


def _assembled(pipeline_class: Any, folder: ModelFolder, given: dict[str, Any]) -> Any:
    if OWN_LIBRARY not in folder.libraries.values():
        return pipeline_class.from_pretrained(folder.path, local_files_only=True, **given)
    # diffusers checks every part against its own library's base classes, which a network from elsewhere fails.
    components = pipeline_class(**{**folder.settings, **given})
    components.register_to_config(_name_or_path=str(folder.path))
    return components


def _required(pipeline_class: type) -> set[str]:
    parameters = python_inspect.signature(pipeline_class).parameters.values()
    return {one.name for one in parameters if one.default is one.empty} - UNUSED_PARTS


def _device(device: str | torch.device) -> torch.device:
    try:
        target = torch.device(device)
        torch.empty(0, device=target)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"device {str(device)!r} cannot be used: {reason}", "Use cpu, or cuda where it is available"
        ) from None
    return target


def _move(pipeline: Pipeline, target: torch.device) -> None:
    try:
        pipeline.components.to(target)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{pipeline.name} does not fit into the memory of {target}",
            "Load it as float16 or bfloat16, or free the device",
        ) from error
