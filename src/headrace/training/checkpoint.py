"""Checkpoints of a phase: safetensors and JSON, complete or absent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from headrace.errors import OutputError, TrainingError
from headrace.files import write_folder
from headrace.training.work import Work

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Progress:
    """Where a phase stands: steps done, seconds spent on them, updates of the averaged weights in the present cycle.

    `cycle_ends`: how many ends of cycles are in their mean.
    """

    step: int = 0
    seconds: float = 0.0
    average_updates: int = 0
    cycle_ends: int = 0


@dataclass(frozen=True)
class Learned:
    """What training changes, by the names of the objective's parameters and buffers.

    `optimizer` has a key `NAME.exp_avg` and the like for each parameter; `loss_scale` is fp16's, else empty;
    `cycle_mean` is empty until a cycle has ended.
    """

    weights: Tensors
    average: Tensors
    optimizer: Tensors
    buffers: Tensors = field(default_factory=dict)
    loss_scale: dict[str, float] = field(default_factory=dict)
    cycle_mean: Tensors = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """One point of a phase. `recipe`: what it was run with, in JSON's types; empty where it was not recorded.

    `work`: what its steps have cost, for the record of the run; it is not read again.
    """

    progress: Progress
    learned: Learned
    recipe: Mapping[str, Any] = field(default_factory=dict)
    work: Mapping[str, Work] = field(default_factory=dict)


_TABLES = ("weights", "average", "optimizer", "buffers")


def _tables(progress: Progress) -> tuple[str, ...]:
    """The parts of a checkpoint that are files of tensors."""
    return (*_TABLES, "cycle_mean") if progress.cycle_ends else _TABLES


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write `folder/step-NNNNNNNN`, then remove all but the last `keep`. Raises `OutputError`, the old ones intact."""
    learned = checkpoint.learned
    content = {"format": 2, **asdict(checkpoint.progress), "loss_scale": learned.loss_scale}
    content["recipe"] = dict(checkpoint.recipe)
    content["work"] = {name: asdict(part) for name, part in checkpoint.work.items()}

    def write(path: Path) -> None:
        for name in _tables(checkpoint.progress):
            tensors = {key: value.detach().contiguous().cpu() for key, value in getattr(learned, name).items()}
            save_file(tensors, path / f"{name}.safetensors")
        (path / "progress.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    path = folder / f"step-{checkpoint.progress.step:08d}"
    try:
        write_folder(path, write)
    except SafetensorError as error:  # what a full disk is to safetensors
        raise OutputError(f"{str(path)!r} cannot be written: {error}", "Free some space, then use --resume") from None
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a phase, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def newest_checkpoint(folder: Path, tell: Callable[[str], None]) -> Checkpoint | None:
    """The newest that can be read, or None when there is none; `tell` gets a line for each damaged one before it.

    Raises `TrainingError` when all are damaged.
    """
    found = checkpoints(folder)
    for path in reversed(found):
        try:
            return read_checkpoint(path)
        except TrainingError as error:
            tell(f"{error.problem}; the one before it is used")
    if found:
        raise TrainingError(
            f"every checkpoint in {str(folder)!r} is damaged", "Start again with another --out, or restore the files"
        )
    return None


def read_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint's content, on the CPU. Raises `TrainingError` when it is damaged."""
    try:
        content = json.loads((path / "progress.json").read_text(encoding="utf-8"))
        updates, ends = int(content["average_updates"]), int(content.get("cycle_ends", 0))
        progress = Progress(int(content["step"]), float(content["seconds"]), updates, ends)
        names = _tables(progress) if content.get("format", 1) >= 2 else _TABLES[:3]
        tables = {name: load_file(path / f"{name}.safetensors") for name in names}
        learned = Learned(**tables, loss_scale=content.get("loss_scale", {}))
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else error
        raise TrainingError(f"the checkpoint {str(path)!r} is damaged: {what}", "Remove it") from None
    return Checkpoint(progress, learned, content.get("recipe", {}))
