"""What every calibration of pictures is told, and the model, engine and requests that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from headrace.cli.evaluate_jobs import SampleOptions, find_conditions, make_jobs, needed_field, read_prompts
from headrace.cli.generate import EngineOptions
from headrace.cli.pictures import prepare_folder, slug
from headrace.errors import CalibrationError
from headrace.models.pipelines.base import Pipeline
from headrace.plan import Plan
from headrace.request import Request

LEAST_ROOM = 1 << 20  # bytes
_CONDITIONS = 32  # arXiv 2312.03209, section 3.2: 32 prompts


@dataclass(frozen=True)
class MeasureOptions:
    """What is measured. Raises `CalibrationError` for counts that are none."""

    model: str
    solver: str | None
    steps: int
    guidance: float | None
    prompts: Path | None
    seeds: int
    device: str
    dtype: str
    batch: int

    def __post_init__(self) -> None:
        for name, least in (("steps", 2), ("seeds", 1), ("batch", 1)):
            if getattr(self, name) < least:
                raise CalibrationError(f"--{name} {getattr(self, name)} is not accepted", f"Use at least {least}")


def shipped_prompts() -> Path:
    """The file of 32 short captions that a text-to-image model is calibrated with by default."""
    return Path(str(resources.files("headrace"))) / "assets" / "prompts" / "calibration.txt"


@dataclass(frozen=True)
class Subject:
    """What is measured, ready: a pipeline, requests of one plan, and the folder that files go to."""

    folder: Path
    pipeline: Pipeline
    requests: list[Request]
    plan: Plan

    @property
    def guidance_scale(self) -> float:
        """The scale that the requests ask for, or the model's default."""
        return self.pipeline.guidance_scale(self.requests[0])


def prepare(options: MeasureOptions, out: Path | None, suffix: str = "") -> Subject:
    """Loads the model and plans its requests. Everything that can be refused is, before any work.

    The folder is outputs/calibrate/MODEL-SOLVER-STEPS with `suffix` where `out` is None.
    """
    import torch

    from headrace.engine import Engine
    from headrace.models.pipelines.folder import inspect

    name = inspect(options.model).name
    solver = slug(options.solver) if options.solver else "own"
    folder = out or Path("outputs") / "calibrate" / f"{name}-{solver}-{options.steps}{suffix}"
    prepare_folder(folder, LEAST_ROOM)
    if options.prompts is not None:
        read_prompts(options.prompts)
    values = {"steps": options.steps, "solver": options.solver, "guidance_scale": options.guidance}
    request = Request.parse({key: value for key, value in values.items() if value is not None})
    asked = EngineOptions(options.model, options.device, options.dtype, slots=1)
    engine = Engine.from_pretrained(asked.model, device=asked.device, dtype=getattr(torch, asked.dtype), slots=1)
    requests = _requests(engine.pipeline, options, request, asked)
    return Subject(folder, engine.pipeline, requests, engine.plan(requests[0]))


def _requests(pipeline: Pipeline, options: MeasureOptions, request: Request, asked: EngineOptions) -> list[Request]:
    """Prompts or classes in turn, a seed for each; 32 images a seed where the model takes neither."""
    wants_text = needed_field(pipeline, request) == "prompt"
    prompts = options.prompts or (shipped_prompts() if wants_text else None)
    conditions = find_conditions(SampleOptions(asked, _CONDITIONS, request, prompts), pipeline)
    count = options.seeds * (len(conditions.texts) or _CONDITIONS)
    return [job.request for job in make_jobs(request, count, conditions)]
