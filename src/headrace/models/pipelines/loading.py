"""From a folder or an embedded name to a pipeline."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from headrace.errors import CorruptModelError, ModelError, UnsupportedModelError
from headrace.models.pipelines.base import Pipeline
from headrace.models.pipelines.folder import UNUSED_PARTS, ModelFolder, inspect
from headrace.models.pipelines.latent import DiTPipeline, LatentDiffusionPipeline
from headrace.models.pipelines.pixel import PixelPipeline
from headrace.models.pipelines.text import PixArtPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline

FAMILIES: dict[str, type[Pipeline]] = {
    "DDPMPipeline": PixelPipeline,
    "DDIMPipeline": PixelPipeline,
    "LDMPipeline": LatentDiffusionPipeline,
    "DiTPipeline": DiTPipeline,
    "StableDiffusionPipeline": StableDiffusionPipeline,
    "LatentConsistencyModelPipeline": StableDiffusionPipeline,
    "StableDiffusionXLPipeline": StableDiffusionXLPipeline,
    "PixArtAlphaPipeline": PixArtPipeline,
}
# Networks that each family's adapter can call; anything else in their place is refused by name.
NETWORKS = {"UNet2DModel", "UNet2DConditionModel", "DiTTransformer2DModel", "Transformer2DModel", "PixArtTransformer2DModel"}


def load(
    path_or_name: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Pipeline:
    """The pipeline of a local diffusers folder (safetensors only) or of an embedded name.

    Nothing is downloaded and no code of the folder is run. Raises `ModelError`: not found, unsupported, corrupt, pickled.
    """
    folder = inspect(path_or_name)
    family = FAMILIES.get(folder.class_name)
    if family is None:
        raise UnsupportedModelError(
            f"{folder.name} is a {folder.class_name}, a family that Headrace has no adapter for",
            f"Supported: {', '.join(sorted(FAMILIES))}",
        )
    network = folder.parts.get("transformer") or folder.parts.get("unet")
    if network not in NETWORKS:
        raise UnsupportedModelError(
            f"{folder.name} denoises with a {network}, which Headrace cannot call", f"Supported: {', '.join(sorted(NETWORKS))}"
        )
    target = _device(device)
    components = load_components(folder, dtype)
    for part in components.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False).eval()
    return family(components.to(target), folder.name)


def load_components(folder: ModelFolder, dtype: torch.dtype = torch.float32) -> Any:
    """The diffusers pipeline of an inspected folder, as diffusers itself loads it. Raises `CorruptModelError`."""
    import diffusers

    pipeline_class = getattr(diffusers, folder.class_name)
    unused = {part: None for part in UNUSED_PARTS if part in _signature(pipeline_class)}
    if "requires_safety_checker" in _signature(pipeline_class):
        unused["requires_safety_checker"] = False  # type: ignore[assignment]
    try:
        with _quiet():
            components = pipeline_class.from_pretrained(
                folder.path,
                torch_dtype=dtype,
                variant=folder.variant,
                local_files_only=True,
                use_safetensors=True,
                **unused,
            )
            components.set_progress_bar_config(disable=True)
            return components
    except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CorruptModelError(
            f"{folder.path} could not be loaded: {first_line}", "Check that its configuration and weights belong together"
        ) from error


def _signature(pipeline_class: type) -> set[str]:
    import inspect as python_inspect

    return set(python_inspect.signature(pipeline_class.__init__).parameters)


def _device(device: str | torch.device) -> torch.device:
    try:
        target = torch.device(device)
        torch.empty(0, device=target)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"device {str(device)!r} cannot be used: {reason}", "Use cpu, or cuda where it is available") from None
    return target


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what diffusers and transformers say while loading (tips to install other packages, progress bars)."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    levels = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.getLogger("torch.distributed").setLevel(logging.ERROR)
            yield
    finally:
        diffusers_logging.set_verbosity(levels[0])
        transformers_logging.set_verbosity(levels[1])
        diffusers_logging.enable_progress_bar()
        transformers_logging.enable_progress_bar()
