"""CLIP and DINOv2 from a local folder in transformers format."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from headrace.errors import CorruptModelError, ModelNotFoundError, UnsafeWeightsError, UnsupportedModelError
from headrace.evaluation.extractors.extractor import Features, digest_of
from headrace.models.pipelines.folder import PICKLED, ModelFolder
from headrace.models.pipelines.parts import load_part, quiet


class VisionFolder(ABC):
    """A folder with config.json, model.safetensors and preprocessor_config.json. Raises `ModelError`."""

    name: str
    is_fid_inception = False
    _classes: ClassVar[Mapping[str, str]]
    _parts: ClassVar[Sequence[str]]

    def __init__(self, path: Path, device: str | torch.device = "cpu") -> None:
        class_name = _model_class(path, self._classes)
        self._device = torch.device(device)
        self._network = _load(path, class_name, torch.float32).to(self._device)
        self._prepare = _image_processor(path)
        self.digest = digest_of(f"{self.name}, version 1", *_files(path, self._parts))

    def __call__(self, pictures: torch.Tensor) -> Features:
        """Features of uint8 pictures [N, 3, H, W], scaled and cropped as the folder's preprocessor says."""
        with torch.inference_mode():
            return Features(self._encode(self._pixels(pictures)).float())

    @abstractmethod
    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features [N, D] of preprocessed pictures."""

    def _pixels(self, pictures: torch.Tensor) -> torch.Tensor:
        arrays = list(pictures.permute(0, 2, 3, 1).numpy())
        pixels: torch.Tensor = self._prepare(
            arrays, return_tensors="pt", input_data_format="channels_last"
        ).pixel_values
        return pixels.to(self._device)


class Dino(VisionFolder):
    """DINOv2 (Oquab et al. 2023): the class token after the last layer norm, which its similarity is defined on."""

    name = "dinov2"
    _classes: ClassVar[Mapping[str, str]] = {
        "dinov2": "Dinov2Model",
        "dinov2_with_registers": "Dinov2WithRegistersModel",
    }
    _parts: ClassVar[Sequence[str]] = ("preprocessor_config.json",)

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        encoded: torch.Tensor = self._network(pixel_values=pixels).pooler_output
        return encoded


class Clip(VisionFolder):
    """CLIP (Radford et al. 2021): the projected image embedding, not normalised. Also encodes texts.

    The folder holds the tokenizer's files as well.
    """

    name = "clip"
    _classes: ClassVar[Mapping[str, str]] = {"clip": "CLIPModel"}
    _parts: ClassVar[Sequence[str]] = ("preprocessor_config.json", "tokenizer.json", "vocab.json", "merges.txt")

    def __init__(self, path: Path, device: str | torch.device = "cpu") -> None:
        super().__init__(path, device)
        self._tokenizer: Any = _load(path, "CLIPTokenizer", torch.float32)

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        encoded: torch.Tensor = self._network.get_image_features(pixel_values=pixels).pooler_output
        return encoded

    def encode_texts(self, texts: Sequence[str], batch: int = 64) -> torch.Tensor:
        """Projected text embeddings, float32 [N, D] on the host; longer texts are cut at CLIP's limit."""
        length = self._network.config.text_config.max_position_embeddings
        encoded = []
        for start in range(0, len(texts), batch):
            with torch.inference_mode():
                tokens = self._tokenizer(
                    list(texts[start : start + batch]),
                    padding=True,
                    truncation=True,
                    max_length=length,
                    return_tensors="pt",
                ).to(self._device)
                output = self._network.get_text_features(tokens.input_ids, attention_mask=tokens.attention_mask)
            encoded.append(output.pooler_output.float().cpu())
        return torch.cat(encoded)


def _model_class(path: Path, classes: Mapping[str, str]) -> str:
    """The transformers class of the folder's network. Raises `ModelError`."""
    wanted = " or ".join(classes)
    if not path.is_dir():
        raise ModelNotFoundError(f"there is no folder at {str(path)!r}", f"Give a {wanted} folder of transformers")
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        kind = config["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptModelError(
            f"{path} has no config.json that names a model_type ({type(error).__name__})",
            f"Give the folder that save_pretrained(...) of a {wanted} model wrote",
        ) from None
    if kind not in classes:
        raise UnsupportedModelError(
            f"{path} is a {kind!r} model, and {wanted} is needed here", f"Give a {wanted} folder"
        )
    pickles = [file.name for file in path.iterdir() if file.suffix in PICKLED]
    if pickles and not list(path.glob("*.safetensors")):
        raise UnsafeWeightsError(
            f"{path} has pickled weights only ({pickles[0]}), and loading those can run any code",
            "Convert them: load with transformers where you trust the file, then save_pretrained(...)",
        )
    return classes[kind]


def _load(path: Path, class_name: str, dtype: torch.dtype) -> Any:
    resolved = path.resolve()
    here = ModelFolder(
        resolved.parent, path.name, "", {resolved.name: class_name}, {resolved.name: "transformers"}, None
    )
    return load_part(here, resolved.name, dtype)


def _image_processor(path: Path) -> Any:
    """The folder's own preprocessing, on Pillow: the torchvision form differs by rounding, and is not needed."""
    if not (path / "preprocessor_config.json").is_file():
        raise CorruptModelError(f"{path} has no preprocessor_config.json", "Restore it: it says how to scale pictures")
    with quiet():
        from transformers import AutoImageProcessor

        try:
            return AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
                path, local_files_only=True, backend="pil"
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptModelError(
                f"the preprocessor_config.json of {path} cannot be used: {str(error).splitlines()[0]}", "Restore it"
            ) from error


def _files(path: Path, parts: Sequence[str]) -> list[Path]:
    """The files that features depend on."""
    chosen = [path / "config.json", *(path / part for part in parts if (path / part).is_file())]
    return chosen + sorted(path.glob("*.safetensors"))
