"""What `headrace calibrate guidance` does: make pictures with rows unguided, compare them, write the files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from headrace.cli.calibrate_display import calibration_bar
from headrace.cli.calibrate_options import MeasureOptions, prepare
from headrace.errors import CalibrationError
from headrace.techniques.guidance.artefact import TAUS, GuidanceArtefact

_QUICK_IMAGES, _QUICK_STARTS = 8, 5


@dataclass(frozen=True)
class GuidanceOptions:
    """What is measured. Raises `CalibrationError` for too few starts."""

    measured: MeasureOptions
    starts: int
    quick: bool
    dino: Path | None
    extractor: str
    centred: bool | None

    def __post_init__(self) -> None:
        if self.starts < 2:
            raise CalibrationError(f"--starts {self.starts} is not accepted", "Use at least 2")


def measure(options: GuidanceOptions, out: Path | None, as_json: bool) -> None:
    """Measures a model and writes the files. Everything that can be refused is, before any work."""
    from headrace.cli.calibrate_guidance_plot import draw_similarity
    from headrace.evaluation.extractors.registry import ExtractorOptions, build_extractors
    from headrace.models.pipelines.fingerprint import pipeline_fingerprint
    from headrace.techniques.block_caching.artefact import solver_identity
    from headrace.techniques.guidance.calibrate import Grid, check_guided, measure_similarity
    from headrace.tuning.judges import features

    asked = options.measured
    names = () if options.dino is not None else (options.extractor,)
    [extractor] = build_extractors(ExtractorOptions(names, dino=options.dino, device=asked.device))
    subject = prepare(asked, out, "-guidance")
    pipeline, plan = subject.pipeline, subject.plan
    check_guided(pipeline, plan)
    grid = Grid.of(len(plan), min(options.starts, _QUICK_STARTS) if options.quick else options.starts)
    requests = subject.requests[:_QUICK_IMAGES] if options.quick else subject.requests
    # DINO's similarity is a cosine as it is; coarse features have too much in common.
    centred = options.dino is None if options.centred is None else options.centred
    with calibration_bar(grid.network_rows * len(requests)) as advance:
        found = measure_similarity(
            pipeline, plan, requests, lambda pixels: features(extractor, pixels), grid, centred, asked.batch, advance
        )
    artefact = GuidanceArtefact.build(
        found, model=pipeline.name, weights=pipeline_fingerprint(pipeline), solver=solver_identity(plan),
        steps=asked.steps, solver_name=asked.solver, guidance_scale=subject.guidance_scale, extractor=extractor.name,
        extractor_digest=extractor.digest, centred=centred,
    )  # fmt: skip
    artefact.save(subject.folder / "window.json")
    draw_similarity(artefact, subject.folder / "similarity.png")
    show(artefact, subject.folder, as_json)


def show(artefact: GuidanceArtefact, folder: Path, as_json: bool) -> None:
    """The curve as a table, and what thresholds make of it; or one JSON object."""
    if as_json:
        summary = {
            "window": str(folder / "window.json"), "model": artefact.model, "steps": artefact.steps,
            "extractor": artefact.extractor, "pictures": artefact.pictures, **artefact.figures,
        }  # fmt: skip
        typer.echo(json.dumps(summary))
        return
    table = Table(box=None, pad_edge=False, title="similarity by rows skipped, of all", title_justify="left")
    table.add_column("from", justify="right")
    for share in artefact.shares:
        table.add_column(f"{share:.0%}", justify="right")
    for start, line in zip(artefact.starts, artefact.similarity, strict=True):
        table.add_row(f"{start:.0%}", *(f"{value:.3f}" for value in line))
    Console().print(table)
    for tau in TAUS:
        typer.echo(f"tau {tau:g}: {_told(artefact.bounds(tau))}")
    features = f"{artefact.extractor} features{' less their mean' if artefact.centred else ''}"
    typer.echo(f"cosine of {features}, mean of {artefact.pictures} images")
    typer.echo(f"written: window.json and similarity.png in {folder}")


def _told(bounds: dict[str, float]) -> str:
    if "one_from" not in bounds:
        return "no row may be skipped"
    rest = f", all the rest from {bounds['all_from']:.0%}" if "all_from" in bounds else ""
    return f"a row may be skipped from {bounds['one_from']:.0%} on{rest}; at most {bounds['saving']:.1%} of the work"
