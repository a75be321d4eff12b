"""What a model was trained with and what came of it, as a JSON file beside its `model_index.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from headrace.evaluation.machine import describe_machine
from headrace.software import software
from headrace.training.checkpoint import checkpoints
from headrace.training.log import TrainingLog
from headrace.training.recipe import Phase, Recipe
from headrace.training.work import Work, training_macs

# Of a phase's steps, at its end, whose figures are averaged.
_LAST = 0.01
# Columns of the log that grow with it, or follow from the recipe.
_RUNNING = ("step", "seconds", "learning_rate", "training_tmac")
_PATHS = ("path", "held_out", "memory_map", "initial", "autoencoder")


def training_record(recipe: Recipe, out: Path, processes: int, device: torch.device) -> dict[str, Any]:
    """The recipe as it was run, and for each phase that was: steps, seconds, pictures seen and its last figures.

    `out` is the folder of the run, `processes` and `device` what it ended on. Of paths only the last part is kept.
    """
    phases = {name: _phase_record(phase, out / name, processes) for name, phase in recipe.phases.items()}
    return {
        "headrace": software(),
        "machine": {**describe_machine(device), "processes": processes},
        "phases": {name: found for name, found in phases.items() if found is not None},
        "recipe": _without_folders(recipe.model_dump(mode="json")),
    }


def _phase_record(phase: Phase, folder: Path, processes: int) -> dict[str, Any] | None:
    found = checkpoints(folder / "checkpoints")
    if not found:
        return None
    progress = json.loads((found[-1] / "progress.json").read_text(encoding="utf-8"))
    steps, loop = progress["step"], phase.loop
    images = steps * loop.batch_size * loop.gradient_accumulation_steps * processes
    figures = _last_figures(TrainingLog(folder / "log.csv", steps), steps)
    record = {"steps": steps, "seconds": round(progress["seconds"]), "images_seen": images, "last_figures": figures}
    work = {name: Work(**part) for name, part in progress.get("work", {}).items()}
    return record | ({"macs": _macs(work, images // steps)} if work and steps else {})


def _macs(work: Mapping[str, Work], images: int) -> dict[str, Any]:
    """Of training, and of each part: forward MACs a picture, its share of pictures, steps that it learnt in."""
    parts = {name: {**asdict(part), "training": part.training(images)} for name, part in work.items()}
    return {"training": training_macs(work, images), "parts": parts}


def _last_figures(log: TrainingLog, steps: int) -> dict[str, float]:
    """Of every column but the clock and the step, the mean over the last steps."""
    figures = {}
    for name in {name: None for row in log.rows for name in row if name not in _RUNNING}:
        at, values = log.series(name)
        last = [value for step, value in zip(at, values, strict=True) if step > (1 - _LAST) * steps - 1]
        if last:
            figures[name] = float(f"{sum(last) / len(last):.6g}")
    return figures


def _without_folders(values: Any) -> Any:
    """The same nested values, with names of files and folders in place of where they lay on the machine."""
    if not isinstance(values, dict):
        return values
    return {
        key: Path(value).name if key in _PATHS and isinstance(value, str) else _without_folders(value)
        for key, value in values.items()
    }
