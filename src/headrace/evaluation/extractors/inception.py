"""The extractor that FID is defined with, from a weights file in safetensors form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from headrace.errors import CorruptModelError, ModelNotFoundError, UnsafeWeightsError
from headrace.evaluation.extractors.extractor import Features, digest_of
from headrace.evaluation.extractors.inception_network import CLASSES, FidInception
from headrace.models.pipelines.folder import PICKLED

SIDE = 299
# pytorch-fid saves the layers as blocks.<block>.<place>; pooling layers take a place and have no weights.
_BLOCKS = (
    ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"),
    ("Conv2d_3b_1x1", "Conv2d_4a_3x3"),
    ("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    ("Mixed_7a", "Mixed_7b", "Mixed_7c"),
)


class Inception:
    """Inception-v3 of the FID. `path`: a .safetensors file, with torchvision's or pytorch-fid's names.

    Pictures are scaled to 299x299 as TensorFlow 1 does (`resize_as_tensorflow_1`) and mapped to (x - 128) / 128.
    Raises `ModelNotFoundError`, `UnsafeWeightsError` (a .pth file) and `CorruptModelError` (not this network).
    """

    name = "inception-v3-fid"
    is_fid_inception = True

    def __init__(self, path: Path, device: str | torch.device = "cpu") -> None:
        weights = _read(path)
        self._has_logits = "fc.weight" in weights
        self._device = torch.device(device)
        self._network = load_network(weights, str(path)).to(self._device)
        self.digest = digest_of("inception-v3-fid, version 1", path)

    @torch.inference_mode()
    def __call__(self, pictures: torch.Tensor) -> Features:
        """Features of uint8 pictures [N, 3, H, W]; logits where the file has the last layer."""
        scaled = resize_as_tensorflow_1(pictures.to(self._device).float(), SIDE)
        output = self._network((scaled - 128) / 128)
        return Features(output.pooled, output.spatial, output.logits if self._has_logits else None)


def load_network(weights: Mapping[str, torch.Tensor], source: str) -> FidInception:
    """The network with these torchvision-named weights; the last layer may be missing. Raises `CorruptModelError`."""
    classes = len(weights.get("fc.bias", torch.empty(CLASSES)))
    if classes != CLASSES:
        raise CorruptModelError(
            f"{source} is an Inception-v3 of {classes} classes, not the one of {CLASSES} that FID is defined with",
            "Convert pt_inception-2015-12-05, not torchvision's own weights: their distances are not FIDs",
        )
    network = FidInception()
    wanted = {name: tensor.shape for name, tensor in network.state_dict().items() if not name.endswith("_tracked")}
    for name, shape in wanted.items():
        found = weights.get(name)
        if found is None and name.startswith("fc."):
            continue
        if found is None or found.shape != shape:
            what = "is missing" if found is None else f"has shape {tuple(found.shape)}, not {tuple(shape)}"
            raise CorruptModelError(f"{source} is not the FID Inception-v3: {name} {what}", "Convert the file again")
    network.load_state_dict({name: weights[name].float() for name in wanted if name in weights}, strict=False)
    network.requires_grad_(False).eval()
    return network


def resize_as_tensorflow_1(pictures: torch.Tensor, side: int) -> torch.Tensor:
    """Bilinear [N, C, H, W] -> [N, C, side, side] as TensorFlow 1's ResizeBilinear with align_corners off.

    Output pixel i reads at i * H / side, with neither the half-pixel centres nor the antialiasing of later libraries.
    """
    return _resize_axis(_resize_axis(pictures, side, 2), side, 3)


def _resize_axis(pictures: torch.Tensor, side: int, axis: int) -> torch.Tensor:
    length = pictures.shape[axis]
    place = torch.arange(side, device=pictures.device, dtype=torch.float32) * (length / side)
    low = place.long().clamp(max=length - 1)
    high = (low + 1).clamp(max=length - 1)
    share = (place - low).view([-1 if dimension == axis else 1 for dimension in range(4)])
    below, above = pictures.index_select(axis, low), pictures.index_select(axis, high)
    return below + (above - below) * share


def _read(path: Path) -> dict[str, torch.Tensor]:
    """Tensors by torchvision's names."""
    if path.suffix in PICKLED:
        raise UnsafeWeightsError(
            f"{path} is pickled, and loading it can run any code",
            'Convert it where you trust it: python -c "import torch; from safetensors.torch import save_file; '
            f"save_file(torch.load('{path.name}', weights_only=True), 'inception.safetensors')\"",
        )
    if not path.is_file():
        raise ModelNotFoundError(f"there are no Inception weights at {str(path)!r}", "Give a .safetensors file")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CorruptModelError(f"{path} cannot be read: {error}", "Give a whole .safetensors file") from None
    return {_torchvision_name(name): tensor for name, tensor in tensors.items()}


def _torchvision_name(name: str) -> str:
    match = re.fullmatch(r"(?:.*\.)?blocks\.(\d+)\.(\d+)\.(.+)", name)
    if match is None:
        return name.removeprefix("module.").removeprefix("inception.")
    block, place = int(match[1]), int(match[2])
    known = block < len(_BLOCKS) and place < len(_BLOCKS[block])
    return f"{_BLOCKS[block][place]}.{match[3]}" if known else name
