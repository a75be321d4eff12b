"""A recipe's phases, one after another, into one diffusers folder (or a classifier's)."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from headrace.engine.allocator import keep_freed_memory
from headrace.errors import RecipeError
from headrace.files import write_folder
from headrace.training.accelerator import make_accelerator
from headrace.training.board import check_tensorboard
from headrace.training.checkpoint import checkpoints
from headrace.training.data import ImageSet, load_images
from headrace.training.export import export_pipeline, is_complete
from headrace.training.kernels import keep_kernels
from headrace.training.objectives.autoencoder import AutoencoderObjective
from headrace.training.objectives.classifier import ClassifierObjective
from headrace.training.objectives.diffusion import DiffusionObjective
from headrace.training.objectives.objective import Objective
from headrace.training.objectives.text_to_image import TextToImageObjective
from headrace.training.recipe import Phase, Recipe
from headrace.training.record import training_record
from headrace.training.tables.autoencoder import AutoencoderPhase
from headrace.training.tables.classifier import ClassifierPhase
from headrace.training.tables.diffusion import DiffusionPhase
from headrace.training.tables.loop import LoopTable
from headrace.training.tables.text_to_image import TextToImagePhase
from headrace.training.trainer import RunSettings, Trainer


@dataclass(frozen=True)
class RunOptions:
    """What the command line adds to a recipe. `minutes`: for each phase, in place of its own. `phase`: only this.

    `tensorboard`: log for it in every phase.
    """

    out: Path
    minutes: float | None = None
    resume: bool = False
    phase: str | None = None
    tensorboard: bool = False


def train(recipe: Recipe, options: RunOptions) -> Path:
    """Train the phases; the folder of the model, float16 when it is complete, else the working folder.

    Raises `RecipeError`, `DataError`, `TrainingError` or `OutputError`.
    """
    names = [options.phase] if options.phase else list(recipe.phases)
    unknown = [name for name in names if name not in recipe.phases]
    if unknown:
        raise RecipeError(f"the recipe has no phase {unknown[0]!r}", f"Its phases: {', '.join(recipe.phases)}")
    phases = {name: _with_options(recipe.phases[name], options) for name in names}
    for phase in phases.values():
        check_loop(phase.loop)
    data = load_images(recipe.data)
    model = options.out / "model"
    for name, phase in phases.items():
        torch.manual_seed(recipe.seed)
        accelerator = make_accelerator(phase.loop)
        if accelerator.device.type == "cpu":
            keep_freed_memory()
            keep_kernels()
        minutes = options.minutes or phase.loop.max_minutes
        seconds = None if minutes is None else 60 * minutes
        record = {"data": recipe.data.model_dump(mode="json"), **phase.model_dump(mode="json")}
        settings = RunSettings(name, options.out, recipe.seed, seconds, options.resume, record)
        with accelerator.main_process_first():
            objective = make_objective(_continued(phase, options, name), data, model)
        Trainer(objective, phase.loop, settings, accelerator).run(model)
        accelerator.wait_for_everyone()
        accelerator.free_memory()
    if not accelerator.is_main_process:
        return model
    destination = options.out / recipe.name
    if is_complete(model):
        record = training_record(recipe, options.out, accelerator.num_processes, accelerator.device)
        export_pipeline(model, destination, record=record)
    elif (model / "classifier").is_dir():
        write_folder(destination, lambda path: shutil.copytree(model / "classifier", path, dirs_exist_ok=True))
    else:
        return model
    return destination


def check_loop(loop: LoopTable) -> None:
    """Raises, before any work, where this machine cannot do what a loop asks for: `RecipeError`, `TrainingError`."""
    make_accelerator(loop)
    if loop.tensorboard:
        check_tensorboard()


def _with_options(phase: Phase, options: RunOptions) -> Phase:
    if not options.tensorboard:
        return phase
    return phase.model_copy(update={"loop": phase.loop.model_copy(update={"tensorboard": True})})


def _continued(phase: Phase, options: RunOptions, name: str) -> Phase:
    """A phase that continues has its weights from a checkpoint, and what it once started from may be gone.

    A text-to-image one takes the parts from the working folder, where it put them when it began.
    """
    if not (options.resume and checkpoints(options.out / name / "checkpoints")) or not getattr(phase, "initial", None):
        return phase
    working = str(options.out / "model") if isinstance(phase, TextToImagePhase) else None
    return phase.model_copy(update={"initial": working})


def make_objective(phase: Phase, data: ImageSet, model: Path) -> Objective:
    """The objective that a phase names, its networks built or loaded from the folder `model`."""
    if isinstance(phase, AutoencoderPhase):
        return AutoencoderObjective(phase, data, model)
    if isinstance(phase, DiffusionPhase):
        return DiffusionObjective(phase, data, model)
    if isinstance(phase, ClassifierPhase):
        return ClassifierObjective(phase, data, model)
    return TextToImageObjective(phase, data, model)
