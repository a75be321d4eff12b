"""Checkpoints of a phase: safetensors and JSON, complete or absent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from headrace.errors import TrainingError
from headrace.files import write_folder

_FILES = ("weights", "average", "optimizer")


@dataclass(frozen=True)
class Progress:
    """Where a phase stands: steps done, seconds spent on them, updates of the averaged weights."""

    step: int = 0
    seconds: float = 0.0
    average_updates: int = 0


def save_checkpoint(
    folder: Path,
    progress: Progress,
    parameters: Sequence[nn.Parameter],
    average: EMAModel,
    optimizer: torch.optim.Optimizer,
    keep: int,
) -> Path:
    """Write `folder/step-NNNNNNNN` and remove all but the last `keep`."""
    tables = (
        {str(number): parameter.detach() for number, parameter in enumerate(parameters)},
        {str(number): parameter for number, parameter in enumerate(average.shadow_params)},
        {
            f"{number}.{name}": value
            for number, state in optimizer.state_dict()["state"].items()
            for name, value in state.items()
        },
    )

    def write(path: Path) -> None:
        for name, table in zip(_FILES, tables, strict=True):
            tensors = {key: value.detach().contiguous().cpu() for key, value in table.items()}
            save_file(tensors, path / f"{name}.safetensors")
        (path / "progress.json").write_text(json.dumps(asdict(progress)), encoding="utf-8")

    path = folder / f"step-{progress.step:08d}"
    write_folder(path, write)
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints of a phase, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / "progress.json").exists())


def load_checkpoint(
    path: Path, parameters: Sequence[nn.Parameter], average: EMAModel, optimizer: torch.optim.Optimizer
) -> Progress:
    """Put a checkpoint's tensors in place. Raises `TrainingError` when it is damaged or of another network."""
    try:
        weights, shadow, state = (load_file(path / f"{name}.safetensors") for name in _FILES)
        progress = Progress(**json.loads((path / "progress.json").read_text(encoding="utf-8")))
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise TrainingError(
            f"the checkpoint {str(path)!r} is damaged: {error}", "Remove it; an older one is used"
        ) from None
    shapes = [tuple(parameter.shape) for parameter in parameters]
    if [tuple(weights[key].shape) for key in sorted(weights, key=int)] != shapes:
        raise TrainingError(
            f"the checkpoint {str(path)!r} is of another network",
            "Use another --out, or the recipe that it was made with",
        )
    with torch.no_grad():
        for number, parameter in enumerate(parameters):
            parameter.copy_(weights[str(number)])
            average.shadow_params[number].copy_(shadow[str(number)])
    average.optimization_step = progress.average_updates
    content = optimizer.state_dict()
    content["state"] = _nested(state)
    optimizer.load_state_dict(content)
    return progress


def _nested(state: dict[str, torch.Tensor]) -> dict[int, dict[str, torch.Tensor]]:
    table: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in state.items():
        number, name = key.split(".", 1)
        table.setdefault(int(number), {})[name] = value
    return table
