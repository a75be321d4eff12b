"""What `headrace calibrate blocks` does: measure or read a profile, choose a schedule, write the files."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from headrace.cli.calibrate_display import calibration_bar, show
from headrace.cli.evaluate_jobs import SampleOptions, find_conditions, make_jobs, needed_field, read_prompts
from headrace.cli.generate import EngineOptions
from headrace.cli.pictures import prepare_folder
from headrace.errors import CalibrationError
from headrace.models.pipelines.base import Pipeline
from headrace.request import Request
from headrace.techniques.block_caching.artefact import BlockCacheArtefact, Choice, cached_blocks, solver_identity
from headrace.techniques.block_caching.calibrate import check_profile, measure_work, profile
from headrace.techniques.block_caching.displacement import measure_displacement
from headrace.techniques.block_caching.schedule import check_target, most_saving

_CONDITIONS = 32  # section 3.2: 32 prompts, 2 seeds each
_DISPLACED_IMAGES, _DISPLACED_BATCH = 8, 2  # the best rows settle early; a batch holds the values of several rows
_LEAST_ROOM = 1 << 20  # bytes


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


def measure(options: MeasureOptions, choice: Choice, out: Path | None, as_json: bool) -> None:
    """Measures a model and writes the files into `out`. Everything that can be refused is, before any work."""
    from headrace.cli.pictures import slug
    from headrace.models.pipelines.folder import inspect

    name = inspect(options.model).name
    solver = slug(options.solver) if options.solver else "own"
    folder = out or Path("outputs") / "calibrate" / f"{name}-{solver}-{options.steps}"
    prepare_folder(folder, _LEAST_ROOM)
    if options.prompts is not None:
        read_prompts(options.prompts)
    request = _request(options)
    pipeline, engine = _load(options)
    requests = _requests(pipeline, options, request)
    plan = engine.plan(requests[0])
    check_profile(plan, requests)
    work = measure_work(pipeline, requests[0])
    cached = cached_blocks(work, choice)
    if choice.saving is not None:
        check_target(choice.saving, most_saving(cached, len(plan), work.share(cached)))
    few = requests[:: -(-len(requests) // _DISPLACED_IMAGES)] if choice.criterion == "displacement" else []
    with calibration_bar(len(plan) * (len(requests) + len(few))) as advance:
        found = profile(pipeline, plan, requests, work, options.batch, advance)
        displacement = (
            measure_displacement(pipeline, plan, few, cached, _DISPLACED_BATCH, progress=advance) if few else None
        )
    artefact = BlockCacheArtefact.build(
        found, choice, displacement, model=pipeline.name, weights=_weights(pipeline), solver=solver_identity(plan),
        steps=options.steps, solver_name=options.solver, guidance_scale=pipeline.guidance_scale(request),
    )  # fmt: skip
    _write(artefact, folder)
    show(artefact, folder, as_json)


def reschedule(source: Path, choice: Choice, out: Path | None, as_json: bool) -> None:
    """Chooses another schedule from a file's profile and writes it, by default into a folder beside the file."""
    artefact = BlockCacheArtefact.load(source).rebuilt(choice)
    criterion = "" if choice.criterion == "change" else f"-{choice.criterion}"
    folder = out or source.parent / f"{choice.kind}{criterion}-{artefact.delta:.4g}"
    if (folder / "schedule.json").resolve() == source.resolve():
        raise CalibrationError(f"--out {str(folder)!r} is where {source.name} lies", "Give another folder with --out")
    prepare_folder(folder, _LEAST_ROOM)
    _write(artefact, folder)
    show(artefact, folder, as_json)


def _request(options: MeasureOptions) -> Request:
    values = {"steps": options.steps, "solver": options.solver, "guidance_scale": options.guidance}
    return Request.parse({key: value for key, value in values.items() if value is not None})


def _load(options: MeasureOptions) -> tuple[Pipeline, Any]:
    """The pipeline, and the engine that plans for it."""
    import torch

    from headrace.engine import Engine

    asked = EngineOptions(options.model, options.device, options.dtype, slots=1)
    engine = Engine.from_pretrained(asked.model, device=asked.device, dtype=getattr(torch, asked.dtype), slots=1)
    return engine.pipeline, engine


def _requests(pipeline: Pipeline, options: MeasureOptions, request: Request) -> list[Request]:
    """Prompts or classes in turn, a seed for each; 32 images a seed where the model takes neither."""
    wants_text = needed_field(pipeline, request) == "prompt"
    prompts = options.prompts or (shipped_prompts() if wants_text else None)
    asked = EngineOptions(options.model, options.device, options.dtype, slots=1)
    conditions = find_conditions(SampleOptions(asked, _CONDITIONS, request, prompts), pipeline)
    count = options.seeds * (len(conditions.texts) or _CONDITIONS)
    return [job.request for job in make_jobs(request, count, conditions)]


def _weights(pipeline: Pipeline) -> str:
    from headrace.models.pipelines.fingerprint import pipeline_fingerprint

    return pipeline_fingerprint(pipeline)


def _write(artefact: BlockCacheArtefact, folder: Path) -> None:
    from headrace.cli.calibrate_files import write_csv
    from headrace.cli.calibrate_plots import draw_lifetimes, draw_profile

    artefact.save(folder / "schedule.json")
    write_csv(artefact, folder / "profile.csv")
    draw_profile(artefact, folder / "profile.png")
    draw_lifetimes(artefact, folder / "lifetimes.png")
