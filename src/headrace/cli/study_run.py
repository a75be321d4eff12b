"""What `headrace study steps` does: requests from a model and its data, the study, and the files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.cli.calibrate_options import shipped_prompts
from headrace.cli.evaluate_jobs import SampleOptions, find_conditions, make_jobs, needed_field
from headrace.cli.generate import EngineOptions
from headrace.cli.pictures import prepare_folder
from headrace.errors import DataError
from headrace.pictures.source import open_source
from headrace.request import Request

if TYPE_CHECKING:
    from headrace.benchmarks._step_study.quality import Truth
    from headrace.models.pipelines.base import Pipeline
    from headrace.training.data import ImageSet

_LEAST_ROOM = 1 << 20  # bytes
_EXTRACTOR = "cifar10-classifier"


@dataclass(frozen=True)
class StudyOptions:
    """What the command line asks. `counts`: numbers of steps, None for the usual ones."""

    model: str
    out: Path
    data: Path | None
    prompts: Path | None
    counts: tuple[int, ...] | None
    solver: str | None
    guidance: float | None
    pictures: int
    batch: int
    quick: bool
    device: str
    dtype: str


def run(options: StudyOptions, as_json: bool) -> None:
    """Runs the study and writes `steps.csv`, `steps.json` and `steps.png`. What can be refused is, before any work."""
    from headrace.benchmarks._step_study.families import QUICK_STEPS, STEPS, families_for
    from headrace.benchmarks._step_study.plots import draw
    from headrace.benchmarks._step_study.report import write
    from headrace.benchmarks._step_study.study import Question, run_study
    from headrace.tuning.accelerated import accelerated

    if options.data is not None and options.prompts is not None:
        raise DataError("--prompts was given beside --data, whose captions are the prompts", "Leave one out")
    prepare_folder(options.out, _LEAST_ROOM)
    engine = EngineOptions(options.model, options.device, options.dtype, slots=options.batch)
    request = Request.parse({} if options.guidance is None else {"guidance_scale": options.guidance})
    if options.data is not None:
        open_source(options.data)  # refused before a model is loaded
    pipeline = _load(engine)
    requests, truth = _free_requests(pipeline, engine, request, options), None
    if options.data is not None:
        requests, truth = _matched_requests(requests, request, _read(pipeline, options.data), options)
    counts = options.counts or (QUICK_STEPS if options.quick else STEPS)
    question = Question(options.solver, counts, families_for(pipeline, options.quick), options.batch)
    found = run_study(pipeline, requests, question, accelerated, truth)
    about = _about(pipeline, options, len(requests))
    title = f"{pipeline.name}, {options.solver or 'own solver'}, {len(requests)} pictures a setting"
    write(found, about, options.out)
    draw(found, title, options.out / "steps.png")
    _show(found, about, title, options, as_json)


def _load(options: EngineOptions) -> Pipeline:
    import torch

    from headrace.models.pipelines.loading import load

    return load(options.model, device=options.device, dtype=getattr(torch, options.dtype))


def _read(pipeline: Pipeline, data: Path) -> ImageSet:
    """The pictures at the model's size."""
    from headrace.benchmarks.embedded import EXCLUDED
    from headrace.training.data import load_images
    from headrace.training.tables.data import DataTable

    height, width = pipeline.default_size
    if height != width or height % 16:
        raise DataError(
            f"{pipeline.name} makes {width}x{height} pictures, and recall takes squares with a side that 16 divides",
            "Leave --data out",
        )
    return load_images(DataTable.model_validate({"path": str(data), "exclude": EXCLUDED, "size": height}))


def _free_requests(pipeline: Pipeline, engine: EngineOptions, request: Request, options: StudyOptions) -> list[Request]:
    """Prompts or classes in turn, or neither, as the model takes them; a seed for each."""
    wants_text = needed_field(pipeline, request) == "prompt"
    prompts = options.prompts or (shipped_prompts() if wants_text else None)
    conditions = find_conditions(SampleOptions(engine, options.pictures, request, prompts), pipeline)
    return [job.request for job in make_jobs(request, options.pictures, conditions)]


def _matched_requests(
    requests: list[Request], request: Request, data: ImageSet, options: StudyOptions
) -> tuple[list[Request], Truth]:
    """A model that takes prompts is asked for pictures of the set by their captions; others keep their `requests`."""
    import numpy as np

    from headrace.benchmarks._step_study.quality import Truth
    from headrace.evaluation.extractors.registry import ExtractorOptions, build_extractors
    from headrace.pictures.spread import spread_indices

    [extractor] = build_extractors(ExtractorOptions(names=[_EXTRACTOR], device=options.device))
    pixels = data.images.permute(0, 2, 3, 1).contiguous().numpy()
    if requests[0].prompt is None:
        return requests, Truth(pixels, None, extractor)
    captioned = np.flatnonzero([bool(caption.strip()) for caption in data.captions])
    if not len(captioned):
        raise DataError(f"{options.data} has no captions to ask a text-to-image model for", "Leave --data out")
    own = captioned[spread_indices(len(captioned), options.pictures)]
    asked = [
        request.model_copy(update={"prompt": data.captions[index], "seed": seed}) for seed, index in enumerate(own)
    ]
    return asked, Truth(pixels, own, extractor)


def _about(pipeline: Pipeline, options: StudyOptions, pictures: int) -> dict[str, Any]:
    from headrace.evaluation.machine import describe_machine

    return {
        "model": pipeline.name, "solver": options.solver, "guidance_scale": options.guidance, "pictures": pictures,
        "batch": options.batch, "dtype": options.dtype, "extractor": _EXTRACTOR if options.data else None,
        "data": options.data.name if options.data else None, "machine": describe_machine(pipeline.device),
    }  # fmt: skip


def _show(found: Any, about: dict[str, Any], title: str, options: StudyOptions, as_json: bool) -> None:
    import json

    import typer
    from rich.console import Console

    from headrace.benchmarks._step_study.report import answer_table, sentences, table
    from headrace.benchmarks._step_study.report import as_json as values

    if as_json:
        typer.echo(json.dumps(values(found, about)))
        return
    console = Console(highlight=False)
    console.print(table(found, title))
    console.print(answer_table(found))
    for line in [*sentences(found), f"files in {options.out}"]:
        console.print(line, markup=False, soft_wrap=True)
