"""Classifiers as feature extractors: folders with config.json and model.safetensors, embedded or trained."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from headrace.errors import CorruptModelError
from headrace.evaluation.extractors.classifier_network import Classifier, ClassifierConfig
from headrace.evaluation.extractors.extractor import Features, digest_of
from headrace.files import write_folder

_PLACES = 8


class ClassifierFeatures:
    """The last layer before the classes, in the place of Inception's; named after its folder. Its distance is no FID.

    Raises `CorruptModelError`.
    """

    is_fid_inception = False

    def __init__(self, path: Path, device: str | torch.device = "cpu") -> None:
        self.name = path.name
        self._device = torch.device(device)
        network = load_classifier(path).to(self._device)
        # Twice as fast on a CPU (64 pictures of 32 px in float32).
        self._network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.digest = digest_of("classifier, version 3", path / "config.json", path / "model.safetensors")

    @torch.inference_mode()
    def __call__(self, pictures: torch.Tensor) -> Features:
        """Features of uint8 pictures [N, 3, H, W], scaled to the classifier's size."""
        config = self._network.config
        values = pictures.to(self._device).float() / 255
        if values.shape[-2:] != (config.size, config.size):
            values = interpolate(values, (config.size, config.size), mode="bilinear", antialias=True).clamp(0, 1)
        pooled, first, logits = self._network.answers(values)
        spatial = adaptive_avg_pool2d(first[:, : config.spatial_channels], _PLACES).flatten(1)
        return Features(pooled, spatial, logits)


def load_classifier(path: Path) -> Classifier:
    """The classifier in a folder, in float32 and for inference. Raises `CorruptModelError`."""
    try:
        config = ClassifierConfig(**json.loads((path / "config.json").read_text(encoding="utf-8")))
        weights = load_file(path / "model.safetensors")
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise CorruptModelError(f"{path / 'config.json'}: {key}: {first['msg']}", "Restore the file") from None
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise CorruptModelError(f"the classifier in {path} cannot be read: {error}", "Restore its files") from None
    network = Classifier(config)
    try:
        network.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, strict=True)
    except RuntimeError as error:
        raise CorruptModelError(
            f"{path}: the weights do not fit the configuration: {str(error).splitlines()[-1].strip()}", "Restore both"
        ) from None
    network.requires_grad_(False).eval()
    return network


def save_classifier(network: Classifier, accuracy: float | None, path: Path) -> None:
    """Write a classifier's folder by rename, its weights in float16; a model card that stands there is kept."""
    config = network.config.model_copy(update={"accuracy": accuracy})
    weights = {name: tensor.detach().half().cpu().contiguous() for name, tensor in network.state_dict().items()}
    card = path / "README.md"
    text = card.read_text(encoding="utf-8") if card.exists() else None

    def write(folder: Path) -> None:
        (folder / "config.json").write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
        save_file(weights, folder / "model.safetensors")
        if text is not None:
            (folder / "README.md").write_text(text, encoding="utf-8")

    write_folder(path, write)


def embedded_classifiers(assets: Path | None = None) -> dict[str, Path]:
    """Name -> folder of the classifiers that are shipped inside the package (or lie in another folder)."""
    root = assets or Path(str(resources.files("headrace"))) / "assets"
    return {config.parent.name: config.parent for config in sorted(root.glob("*/config.json")) if is_classifier(config)}


def is_classifier(config: Path) -> bool:
    """Whether a config.json says that its folder is a classifier of ours; False for what is not there or not JSON."""
    try:
        kind = json.loads(config.read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        return False  # some other folder's file: naming what is wrong with it is not this function's business
    return bool(kind == "headrace-classifier")
