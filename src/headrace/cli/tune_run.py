"""What `headrace tune` does: the subject put together, searched, chosen from, confirmed and written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer

from headrace.cli.evaluate_jobs import needed_field
from headrace.cli.generate import EngineOptions
from headrace.cli.pictures import prepare_folder
from headrace.cli.tune_display import TuneDisplay, front_rows, show_confirmation, show_front, summary
from headrace.cli.tune_plot import draw_front
from headrace.errors import RequestError, SolverError
from headrace.evaluation.extractors.extractor import FeatureExtractor
from headrace.evaluation.extractors.registry import ExtractorOptions, build_extractors
from headrace.evaluation.metrics.gaussian import Gaussian
from headrace.files import write_json
from headrace.models.pipelines.base import Pipeline
from headrace.request import Request
from headrace.techniques.block_caching.artefact import solver_identity
from headrace.tuning.judges import Judge, Recall, Similarity, features
from headrace.tuning.measure import Measure, Subject
from headrace.tuning.prompts import Prompts, read_prompts
from headrace.tuning.search import Budget
from headrace.tuning.settings import Settings
from headrace.tuning.tune import Found, Tuning
from headrace.tuning.wish import Wish

_LEAST_ROOM = 1 << 20  # bytes
_SOLVERS = ("dpm++2m", "unipc", "ddim")
_SIDES = 16  # pixels: what the features of recall need sides to be a multiple of


@dataclass(frozen=True)
class TuneOptions:
    """What is tuned. Raises `RequestError` for too few prompts or an unknown metric."""

    engine: EngineOptions
    data: Path
    wish: Wish
    prompts: int
    quick: bool
    metric: str | None
    extractor: str
    solver: str | None
    steps: int
    guidance: float | None
    exclude: tuple[str, ...]
    seed: int

    def __post_init__(self) -> None:
        if self.prompts < 4:
            raise RequestError("prompts", f"--prompts {self.prompts} is not accepted", "Use at least 4: half confirm")
        if self.metric not in (None, "recall", "similarity"):
            raise RequestError("metric", f"--metric {self.metric!r} is not accepted", "Use recall or similarity")


def run(options: TuneOptions, out: Path | None, as_json: bool) -> None:
    """Tunes a model and writes the files into `out`. Everything that can be refused is, before any work."""
    import torch

    from headrace.models.pipelines.folder import inspect
    from headrace.models.pipelines.loading import load

    asked = options.engine
    folder = out or Path("outputs") / "tune" / inspect(asked.model).name
    prepare_folder(folder, _LEAST_ROOM)
    request = _request(options)
    [extractor] = build_extractors(ExtractorOptions([options.extractor], device=asked.device))
    pipeline = load(asked.model, device=asked.device, dtype=getattr(torch, asked.dtype))
    if needed_field(pipeline, request) != "prompt":
        raise RequestError("model", f"{pipeline.name} takes no prompts", "Name a text-to-image model")
    prompts = _prompts(options, pipeline)
    subject = _subject(options, pipeline, request, prompts, extractor)
    budget = _budget(options, prompts)
    with TuneDisplay(budget) as display:
        tuning = Tuning(
            subject, budget, options.wish, folder, prompts.searched, _digest(prompts), _solvers(subject), options.seed,
            display.advance,
        )  # fmt: skip
        found = tuning.search(display)
        _write_front(found, subject.judge.metric, folder)
        if not as_json:
            display.stop()
            show_front(found, subject.judge.metric)
        artefact = tuning.confirm(found)
    artefact.save(folder / "acceleration.json")
    draw_front(found, subject.judge.metric, folder / "front.png", artefact)
    if as_json:
        typer.echo(json.dumps(summary(artefact, folder)))
    else:
        show_confirmation(artefact, folder)


def _request(options: TuneOptions) -> Request:
    values = {"steps": options.steps, "solver": options.solver, "guidance_scale": options.guidance}
    return Request.parse({key: value for key, value in values.items() if value is not None})


def _prompts(options: TuneOptions, pipeline: Pipeline) -> Prompts:
    height, width = pipeline.default_size
    found = read_prompts(options.data, height, options.prompts, options.exclude, options.seed)
    if options.metric == "recall" and found.pictures is None:
        raise RequestError("metric", f"{options.data} has no pictures to recall", "Use --metric similarity")
    if found.pictures is not None and options.metric != "similarity" and (height != width or height % _SIDES):
        raise RequestError(
            "metric",
            f"{pipeline.name} makes {width}x{height} pictures, and recall compares squares whose side is a multiple of "
            f"{_SIDES}",
            "Use --metric similarity",
        )
    return found


def _subject(
    options: TuneOptions, pipeline: Pipeline, request: Request, prompts: Prompts, extractor: FeatureExtractor
) -> Subject:
    pictures, reference = prompts.pictures, None
    judge: Judge = Similarity(extractor)
    if pictures is not None and options.metric != "similarity":
        judge = Recall(pictures)
        reference = Gaussian.of(features(extractor, pictures.references))
    requests = [
        request.model_copy(update={"prompt": text, "seed": options.seed + number})
        for number, text in enumerate(prompts.texts)
    ]
    for one in requests:
        Request.parse({"prompt": one.prompt})
        pipeline.check(one)
    baseline = Settings(solver=options.solver, steps=options.steps)
    return Subject(pipeline, baseline, requests, judge, options.engine.slots, extractor, reference)


def _budget(options: TuneOptions, prompts: Prompts) -> Budget:
    """Two batches for each candidate at first, so that plain sampling takes its turn between them."""
    least = min(2 * options.engine.slots, prompts.searched)
    if options.quick:
        return Budget(candidates=16, least=least, most=prompts.searched, finalists=4)
    return Budget(candidates=48, least=least, most=prompts.searched, finalists=8)


def _solvers(subject: Subject) -> Sequence[str]:
    """The solvers that suit this model and are not the baseline's own."""
    measure = Measure(subject)
    known, found = {solver_identity(measure.plan(subject.baseline))}, []
    for name in _SOLVERS:
        try:
            identity = solver_identity(measure.plan(subject.baseline.model_copy(update={"solver": name})))
        except SolverError:
            continue  # another family's
        if identity not in known:
            known.add(identity)
            found.append(name)
    return found


def _digest(prompts: Prompts) -> str:
    """What tells one selection of prompts from another."""
    text = "\n".join([str(prompts.searched), *prompts.texts])
    pixels = b"" if prompts.pictures is None else np.ascontiguousarray(prompts.pictures.references).tobytes()
    return hashlib.sha256(text.encode() + pixels).hexdigest()[:16]


def _write_front(found: Found, metric: str, folder: Path) -> None:
    write_json(folder / "front.json", {"metric": metric, "front": front_rows(found)}, indent=1)
    draw_front(found, metric, folder / "front.png")
