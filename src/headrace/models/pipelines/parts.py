"""The parts of a model folder, each loaded by its own class and checked to be complete."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import headrace
from headrace.errors import CorruptModelError, ModelError, UnsupportedModelError
from headrace.models.pipelines.folder import ModelFolder, weights_variant


def stands_for(class_name: str) -> str:
    """The class that a network is called as: its own, or what a registered network says that it `stands_for`."""
    return str(getattr(getattr(headrace, class_name, None), "stands_for", class_name))


def registered_network(configuration: Mapping[str, Any], class_name: str = "UNet2DModel") -> tuple[Any, dict[str, Any]]:
    """The registered class that a configuration names as `network`, and the settings that it is made with.

    Among these is `unet`, the configuration of what it stands for. Raises `ModelError` for a class that is not
    registered or stands for another than `class_name`, and where `unet` is missing.
    """
    settings = dict(configuration)
    name = settings.pop("network", None)
    kind = getattr(headrace, name, None) if isinstance(name, str) else None
    if getattr(kind, "stands_for", None) != class_name or not isinstance(settings.get("unet"), Mapping):
        raise ModelError(
            f"{name!r} is no network with a configuration `unet` that stands for a {class_name}",
            "Name a registered one, such as MultistageUNet2DModel, and give the settings that it is made with",
        )
    return kind, settings


def load_part(folder: ModelFolder, part: str, dtype: torch.dtype) -> Any:
    """One network, tokenizer or solver of an inspected folder.

    Raises `UnsupportedModelError` (no such class in the library it is said to come from) and `CorruptModelError` (its
    files do not fit its configuration, or tensors are missing: the libraries would fill those with random numbers).
    """
    library, path = folder.libraries[part], folder.path / part
    part_class = getattr(importlib.import_module(library), folder.parts[part], None)
    if not isinstance(part_class, type) or not hasattr(part_class, "from_pretrained"):
        raise UnsupportedModelError(
            f"{folder.name}: part {part!r} is a {folder.parts[part]}, which the installed {library} does not have",
            f"Use another version of {library}, or a folder of the classes it has",
        )
    if issubclass(part_class, torch.nn.Module):
        return _load_network(part_class, library, path, dtype)
    with _failures_named(path):
        return part_class.from_pretrained(path, local_files_only=True)  # type: ignore[attr-defined]


def _load_network(network_class: type, library: str, path: Path, dtype: torch.dtype) -> torch.nn.Module:
    dtype_name = "dtype" if library == "transformers" else "torch_dtype"
    with _failures_named(path):
        network, info = network_class.from_pretrained(  # type: ignore[attr-defined]
            path,
            variant=weights_variant(path),
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **{dtype_name: dtype},
        )
    missing = sorted(info["missing_keys"])
    if missing:
        raise CorruptModelError(
            f"{path} lacks {len(missing)} of the tensors that a {network_class.__name__} of its configuration has "
            f"({missing[0]}{', ...' if len(missing) > 1 else ''})",
            "Restore its .safetensors files; they may belong to another configuration",
        )
    network.requires_grad_(False).eval()
    return network


@contextmanager
def _failures_named(path: Path) -> Iterator[None]:
    """What the libraries raise while they read a part's files, as one error that names the folder.

    They raise every kind (bare `Exception` among them), so all are caught here; the cause stays attached.
    """
    try:
        with quiet():
            yield
    except MemoryError as error:
        raise ModelError(
            f"{path} does not fit into memory", "Load it as float16 or bfloat16, or use a larger machine"
        ) from error
    except ModelError as error:  # a network of Headrace's own refuses its configuration
        raise UnsupportedModelError(f"{path} could not be loaded: {error.problem}", error.remedy) from error
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CorruptModelError(
            f"{path} could not be loaded: {lines[0].rstrip('.')}",
            "Check that its configuration and files belong together",
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silences what diffusers and transformers say while loading (tips to install other packages, progress bars)."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = diffusers_logging, transformers_logging
    levels = [library.get_verbosity() for library in libraries]
    bars = [library.is_progress_bar_enabled() for library in libraries]
    for library in libraries:
        library.set_verbosity(logging.CRITICAL)
        library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.getLogger("torch.distributed").setLevel(logging.ERROR)
            yield
    finally:
        for library, level, bar in zip(libraries, levels, bars, strict=True):
            library.set_verbosity(level)
            if bar:
                library.enable_progress_bar()
