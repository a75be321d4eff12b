"""Training that starts from the weights of a trained model."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from headrace.errors import RecipeError

_log = logging.getLogger(__name__)
# Of a network's weights that a model must share with it to be a start.
_SHARED = 0.5


def start_from(network: nn.Module, model: Path, part: str = "unet") -> tuple[str, ...]:
    """Take the weights of a trained model where names and shapes agree; the names of the tensors that start anew.

    `model` is a diffusers folder with a part of this name, or the part's own folder. The tensors that are not taken
    are logged. Raises `RecipeError` when nothing can be read, or when the model holds less than half of the network.
    """
    folder = model / part if (model / part).is_dir() else model
    found = _tensors(folder, model)
    own = network.state_dict()
    taken = {name: value for name, value in found.items() if name in own and own[name].shape == value.shape}
    share = sum(value.numel() for value in taken.values()) / max(1, sum(value.numel() for value in own.values()))
    if share < _SHARED:
        raise RecipeError(
            f"initial = {str(model)!r} is of another network: {share:.0%} of the weights agree in name and shape",
            "Name a model of the same configuration",
        )
    network.load_state_dict(taken, strict=False)
    anew = tuple(name for name in own if name not in taken)
    unused = tuple(name for name in found if name not in taken)
    if anew or unused:
        _log.warning("initial: tensors that start anew: %s; of %s not used: %s", _listed(anew), model, _listed(unused))
    return anew


def _tensors(folder: Path, model: Path) -> dict[str, torch.Tensor]:
    try:
        found: dict[str, torch.Tensor] = {}
        for file in sorted(folder.glob("*.safetensors")):
            found |= load_file(file)
    except (OSError, SafetensorError) as error:
        raise RecipeError(f"initial = {str(model)!r} cannot be read: {error}", "Name a diffusers folder") from None
    if not found:
        raise RecipeError(f"initial = {str(model)!r} has no .safetensors weights", "Name a diffusers folder")
    return found


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"{len(names)} ({shown})" if names else "none"
