"""What can be known of a model folder before anything of it is loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from headrace import NETWORKS
from headrace.errors import CorruptModelError, ModelNotFoundError, UnsafeWeightsError, UnsupportedModelError

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
TRUSTED_LIBRARIES = {"diffusers", "transformers"}
# Of this library those classes load that are registered as entry points of the group `headrace.NETWORKS`, by name.
OWN_LIBRARY = "headrace"
# Parts that no picture depends on, so they are never loaded.
UNUSED_PARTS = {"safety_checker", "feature_extractor", "image_encoder"}
_FP16 = re.compile(r"\.fp16[.-]")
_CONFIGS = ("config.json", "scheduler_config.json", "tokenizer_config.json", "vocab.json", "spiece.model")


@dataclass(frozen=True)
class ModelFolder:
    """A diffusers model folder that was looked at.

    `parts` maps each part to its class name and `libraries` to the package of that class. `variant` is "fp16" where all
    weights are there in that variant only. `settings` are those of the pipeline, which lie beside the parts.
    """

    path: Path
    name: str
    class_name: str
    parts: dict[str, str]
    libraries: dict[str, str]
    variant: str | None
    settings: Mapping[str, Any] = field(default_factory=dict)


def embedded_models() -> dict[str, Path]:
    """Name -> folder of the models that are shipped inside the package."""
    root = Path(str(resources.files("headrace"))) / "assets"
    return {index.parent.name: index.parent for index in sorted(root.glob("*/model_index.json"))}


def find(path_or_name: str | Path) -> Path:
    """The folder of an embedded name or a local path. Raises `ModelNotFoundError`."""
    embedded = embedded_models()
    if str(path_or_name) in embedded:
        return embedded[str(path_or_name)]
    try:
        folder = Path(path_or_name).expanduser()
        is_folder, is_file = bool(str(path_or_name)) and folder.is_dir(), folder.is_file()
    except (OSError, RuntimeError):  # a name too long for the file system, an unknown user's home
        is_folder = is_file = False
    if is_folder:
        return folder
    if is_file:
        raise UnsupportedModelError(
            f"{folder} is a single file, and Headrace loads diffusers folders",
            "Convert it with diffusers' from_single_file(...) and save_pretrained(...)",
        )
    known = ", ".join(sorted(embedded)) or "none"
    name = str(path_or_name) if len(str(path_or_name)) <= 200 else f"{str(path_or_name)[:60]}..."
    raise ModelNotFoundError(
        f"there is no model {name!r}", f"Give a diffusers folder, or an embedded name (known: {known})"
    )


def inspect(path_or_name: str | Path) -> ModelFolder:
    """Reads `model_index.json` and checks every part's files, without loading any.

    Raises `ModelNotFoundError`, `UnsupportedModelError` (code of its own, parts of other libraries),
    `UnsafeWeightsError` (pickles only) and `CorruptModelError` (files missing or cut short).
    """
    path = find(path_or_name)
    index = _read_index(path)
    name = path.resolve().name
    parts: dict[str, str] = {}
    libraries: dict[str, str] = {}
    variants: set[str | None] = set()
    for part, entry in index.items():
        # Settings of the pipeline lie beside the parts; a part is a pair (library, class), null where it is left out.
        if part.startswith("_") or part in UNUSED_PARTS or not isinstance(entry, list) or not any(entry):
            continue
        libraries[part], parts[part] = _library_and_class(name, part, entry)
        variants |= _check_part(path / part)
    variant = "fp16" if variants == {"fp16"} else None
    settings = {key: value for key, value in index.items() if not key.startswith("_") and not isinstance(value, list)}
    return ModelFolder(path, name, str(index.get("_class_name")), parts, libraries, variant, settings)


def _library_and_class(name: str, part: str, entry: list[object]) -> tuple[str, str]:
    match entry:
        case [str(library), str(class_name)] if library in TRUSTED_LIBRARIES:
            return library, class_name
        case [str(library), str(class_name)] if library == OWN_LIBRARY:
            known = entry_points(group=NETWORKS).names
            if class_name not in known:
                raise UnsupportedModelError(
                    f"{name}: part {part!r} is a {class_name}, and Headrace has no network of this name",
                    f"Known: {', '.join(sorted(known)) or 'none, so install the package again'}",
                )
            return library, class_name
        case [str(library), str()]:
            raise UnsupportedModelError(
                f"{name}: part {part!r} comes from {library!r}, and code inside a model folder is never run",
                "Use a folder whose parts are diffusers or transformers classes",
            )
    raise CorruptModelError(
        f"{name}: the model_index.json says {entry!r} of part {part!r}", "Restore the file: a part is [library, class]"
    )


def _read_index(path: Path) -> dict[str, object]:
    index = path / "model_index.json"
    if not index.is_file():
        raise UnsupportedModelError(
            f"{path} has no model_index.json, so it is not a diffusers pipeline folder",
            "Point at the folder that save_pretrained(...) of a pipeline wrote",
        )
    content = _read_object(index)
    if "_class_name" not in content:
        raise CorruptModelError(f"{index} does not name a pipeline class", "Restore the file")
    return content


def _read_object(file: Path) -> dict[str, object]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CorruptModelError(f"{file} cannot be read: {error.strerror}", "Check its permissions") from None
    except ValueError as error:
        raise CorruptModelError(f"{file} is not JSON: {error}", "Restore the file") from None
    if not isinstance(content, dict):
        raise CorruptModelError(f"{file} holds a {type(content).__name__}, not a JSON object", "Restore the file")
    return content


def _check_part(folder: Path) -> set[str | None]:
    """Variants of the weights that lie in a part's folder: None for the plain ones, 'fp16'; empty where it has none."""
    if not folder.is_dir() or not any((folder / name).is_file() for name in _CONFIGS):
        raise CorruptModelError(f"{folder} is missing or has no configuration file", "Restore the whole model folder")
    for name in _CONFIGS:
        if name.endswith(".json") and (folder / name).is_file():
            _read_object(folder / name)
    weights = sorted(folder.glob("*.safetensors"))
    pickles = [file.name for file in folder.iterdir() if file.suffix in PICKLED]
    if pickles and not weights:
        raise UnsafeWeightsError(
            f"{folder} has pickled weights only ({pickles[0]}), and loading those can run any code",
            "Convert them: load with diffusers where you trust the file, then save_pretrained(...) writes .safetensors",
        )
    needs_weights = (folder / "config.json").is_file()
    if needs_weights and not weights:
        raise CorruptModelError(f"{folder} has a configuration but no weights", "Restore its .safetensors file")
    for file in weights:
        _check_weights(file)
    return {weights_variant(folder)} if weights else set()


def weights_variant(folder: Path) -> str | None:
    """The variant to load a part in: "fp16" where its weights are there only so (whole or in shards), else None."""
    names = [file.name for file in folder.glob("*.safetensors")]
    return "fp16" if names and all(_FP16.search(name) for name in names) else None


def _check_weights(file: Path) -> None:
    try:
        with safe_open(file, framework="pt") as opened:
            opened.keys()
    except (SafetensorError, OSError) as error:
        raise CorruptModelError(f"{file} cannot be read: {error}", "Restore the file; it may be cut short") from None
