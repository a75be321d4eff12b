"""What `headrace calibrate scale-shift` does: load, check, train, write."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from headrace.cli.calibrate_options import shipped_prompts
from headrace.cli.evaluate_jobs import SampleOptions, find_conditions, make_jobs, needed_field, read_prompts
from headrace.cli.generate import EngineOptions
from headrace.cli.pictures import prepare_folder
from headrace.errors import RequestError
from headrace.request import Request
from headrace.techniques.block_caching.artefact import BlockCacheArtefact

if TYPE_CHECKING:
    from headrace.models.pipelines.base import Pipeline
    from headrace.training.tables.loop import LoopTable
    from headrace.training.trainer import Trainer

_LEAST_ROOM = 16 << 20  # bytes
_EMA_DECAY = 0.98  # the mean of about the last 50 trajectories
_SAMPLES = 10  # times that held-out trajectories are scored
_CHECKPOINT_EVERY = 20
_WARMUP = 10


@dataclass(frozen=True)
class TrainOptions:
    """What is trained, on what and for how long."""

    schedule: Path
    model: str | None
    prompts: Path | None
    data: Path | None
    iterations: int
    minutes: float | None
    batch: int
    learning_rate: float
    seed: int
    resume: bool
    out: Path | None
    dtype: str

    def __post_init__(self) -> None:
        if self.prompts is not None and self.data is not None:
            raise RequestError("prompts", "--prompts and --data were both given", "Give one of them")

    @property
    def folder(self) -> Path:
        """Where the run's checkpoints, log and samples go."""
        return self.out or self.schedule.parent / "scale-shift"


def train(options: TrainOptions, as_json: bool) -> None:
    """Trains to the end and tells what came of it. Everything that can be refused is, before any work."""
    artefact = BlockCacheArtefact.load(options.schedule)
    if options.prompts is not None:
        read_prompts(options.prompts)
    prepare_folder(options.folder, _LEAST_ROOM)
    trainer = _trainer(options, artefact)
    trainer.run(options.schedule.parent)
    if not trainer.accelerator.is_main_process:
        return
    found = _summary(trainer, options)
    if as_json:
        typer.echo(json.dumps(found))
        return
    Console(stderr=True, highlight=False).print(
        f"held-out loss {found['plain_loss']:.4g} cached, {found['held_out_loss']:.4g} with scale and shift\n"
        f"the pictures are {found['distance']:.0%} as far from those without a cache as with plain caching\n"
        f"written: {found['file']}",
        soft_wrap=True,
    )


def _trainer(options: TrainOptions, artefact: BlockCacheArtefact) -> Trainer:
    import torch

    from headrace.engine import Engine, EngineSettings
    from headrace.models.pipelines.loading import load
    from headrace.techniques.block_caching.network import enable
    from headrace.training.accelerator import make_accelerator
    from headrace.training.objectives.scale_shift import ScaleShiftObjective
    from headrace.training.trainer import RunSettings, Trainer

    loop = _loop(options)
    accelerator = make_accelerator(loop)
    asked = EngineOptions(options.model or artefact.model, str(accelerator.device), options.dtype, slots=1)
    pipeline = load(asked.model, device=accelerator.device, dtype=getattr(torch, asked.dtype))
    values = {"steps": artefact.steps, "solver": artefact.solver_name, "guidance_scale": artefact.guidance_scale}
    request = Request.parse({name: value for name, value in values.items() if value is not None})
    requests = _requests(pipeline, SampleOptions(asked, 0, request, options.prompts, options.data))
    decide = enable(pipeline, artefact)
    engine = Engine(pipeline, EngineSettings(slots=1), decide)
    objective = ScaleShiftObjective(pipeline, engine.plan(requests[0]), artefact, requests)
    seconds = None if options.minutes is None else 60 * options.minutes
    record = {"objective": _identity(artefact, requests, options), "loop": loop.model_dump(mode="json")}
    folder = options.folder
    settings = RunSettings(folder.name, folder.parent, options.seed, seconds, options.resume, record)
    return Trainer(objective, loop, settings, accelerator)


def _loop(options: TrainOptions) -> LoopTable:
    from headrace.training.tables.loop import LoopTable

    every = max(1, options.iterations // _SAMPLES)
    return LoopTable.model_validate(
        {
            "steps": options.iterations,
            "batch_size": options.batch,
            "learning_rate": options.learning_rate,
            "warmup_steps": _WARMUP,
            "ema_decay": _EMA_DECAY,
            "mixed_precision": "no",
            "log_every": 1,
            "sample_every": every,
            "checkpoint_every": min(every, _CHECKPOINT_EVERY),
        }
    )


def _requests(pipeline: Pipeline, options: SampleOptions) -> list[Request]:
    """One for each prompt or class; a single one where the model takes neither."""
    if needed_field(pipeline, options.request) == "prompt" and options.prompts is None and options.data is None:
        options = SampleOptions(options.engine, options.count, options.request, shipped_prompts())
    conditions = find_conditions(options, pipeline)
    count = len(conditions.texts) or conditions.classes or 1
    return [job.request for job in make_jobs(options.request, count, conditions)]


def _identity(artefact: BlockCacheArtefact, requests: Sequence[Request], options: TrainOptions) -> dict[str, Any]:
    """What a resumed run must have in common with the run that it continues."""
    told = json.dumps([(one.prompt, one.class_label) for one in requests])
    return {
        "kind": "scale-shift",
        "weights": artefact.weights,
        "schedule": artefact.identity,
        "solver": artefact.solver,
        "steps": artefact.steps,
        "requests": hashlib.sha256(told.encode()).hexdigest()[:16],
        "dtype": options.dtype,
    }


def _summary(trainer: Trainer, options: TrainOptions) -> dict[str, Any]:
    """What scripts want to know of a run; losses are means over its first and last tenth."""
    from headrace.techniques.block_caching.scale_shift_file import FILE_NAME

    _, losses = trainer.log.series("loss")
    tenth = max(1, len(losses) // 10)
    figures = {name: trainer.log.series(name)[1][-1] for name in ("plain_loss", "held_out_loss", "distance")}
    return {
        "file": str(options.schedule.with_name(FILE_NAME)),
        "iterations": trainer.progress.step,
        "seconds": trainer.progress.seconds,
        "first_loss": sum(losses[:tenth]) / tenth,
        "loss": sum(losses[-tenth:]) / tenth,
        **figures,
    }
