"""One run of `headrace evaluate`: pictures, figures, report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from headrace.cli.evaluate_display import extraction_bars, show
from headrace.cli.evaluate_samples import SampleOptions, Samples, find_pictures, is_pictures, make_samples
from headrace.cli.pictures import prepare_folder, read_settings
from headrace.errors import RequestError
from headrace.evaluation.cache import FeatureCache, default_cache
from headrace.evaluation.evaluate import Evaluation, Findings, add_new, first_size
from headrace.evaluation.extraction import batches
from headrace.evaluation.extractors.extractor import FeatureExtractor
from headrace.evaluation.extractors.registry import ExtractorOptions, build_extractors
from headrace.evaluation.extractors.transformers_folder import VisionFolder
from headrace.evaluation.figures import MetricOptions
from headrace.evaluation.paired import pair_up, paired_figures
from headrace.evaluation.report import Report, shorten
from headrace.files import write_file
from headrace.pictures.entry import PictureSource
from headrace.pictures.folder import FileSource
from headrace.pictures.grid import image_grid
from headrace.pictures.source import open_source

_ROOM = 16 << 20  # bytes
_GRID = 64
_COLUMNS = 8
# Two pictures are a pair where these agree: the same request, whatever the model, the solver or the plan.
_SAME_REQUEST = ("prompt", "negative_prompt", "class_label", "seed", "height", "width")


@dataclass(frozen=True)
class Target:
    """What is evaluated (a model or pictures; None: nothing, for a self-check), and against what."""

    model: str | None
    data: Path | None
    reference: Path | None
    data_samples: int | None
    self_check: bool


@dataclass(frozen=True)
class Destinations:
    """The report's file, the folders of samples and features; None for the defaults."""

    out: Path | None
    work: Path | None
    cache: Path | None
    as_json: bool


def run(target: Target, sampling: SampleOptions, extractors: ExtractorOptions, to: Destinations) -> bool:
    """Everything, cheap checks first. Returns whether all self-checks passed. Raises `HeadraceError`."""
    data = None if target.data is None else open_source(target.data, target.data_samples)
    references = None if target.reference is None else _files(target.reference)
    cache = to.cache or default_cache()
    prepare_folder(cache, _ROOM)
    if to.out is not None:
        prepare_folder(to.out.parent, _ROOM)
    built = build_extractors(extractors)
    samples = None if target.model is None else _samples(target.model, sampling, to.work)
    with extraction_bars() as watch:
        evaluation = Evaluation(data, built, FeatureCache(cache), MetricOptions(device=extractors.device), watch)
        if samples is not None:
            evaluation.measure(samples.source)
        if target.self_check:
            evaluation.check()
    findings = evaluation.findings
    if samples is not None and references is not None:
        _compare_pairs(samples, references, built, findings)
    work = samples.work if samples is not None else to.work or Path("outputs") / "evaluate" / "self-check"
    out = to.out or work / "report.json"
    report = _report(target, samples, findings, data)
    if samples is not None:
        report = report.model_copy(update={"files": _write_grid(samples, out)})
    report.write(out)
    if to.as_json:
        typer.echo(out.read_text(encoding="utf-8"), nl=False)
    else:
        console = Console(soft_wrap=True, highlight=False)
        show(report, console)
        console.print(f"report: {out}")
    return all(check.passed for check in findings.checks)


def _samples(model: str, sampling: SampleOptions, work: Path | None) -> Samples:
    if is_pictures(model):
        return find_pictures(Path(model).expanduser(), sampling.count, work)
    return make_samples(sampling, work)


def _files(folder: Path) -> FileSource:
    source = open_source(folder)
    if not isinstance(source, FileSource):
        raise RequestError("reference", f"{folder} is not a folder of pictures", "Give a folder: pairs are files")
    return source


def _compare_pairs(
    samples: Samples, references: FileSource, extractors: list[FeatureExtractor], findings: Findings
) -> None:
    """Adds PSNR, SSIM, and the similarity in CLIP's and DINO's features. Raises `HeadraceError` without a pair."""
    if not isinstance(samples.source, FileSource):
        raise RequestError("reference", "pairs of pictures are files", "Give the samples as a folder")
    pairs = pair_up(*({_pair_key(path): path for path in source.paths} for source in (samples.source, references)))
    chosen = [extractor for extractor in extractors if isinstance(extractor, VisionFolder)]
    figures, skipped = paired_figures(pairs, chosen)
    findings.figures += figures
    add_new(skipped, findings.skipped)


def _pair_key(path: Path) -> str:
    settings = read_settings(path)
    return path.stem if settings is None else repr([settings.get(key) for key in _SAME_REQUEST])


def _report(target: Target, samples: Samples | None, findings: Findings, data: PictureSource | None) -> Report:
    described: dict[str, Any] = {}
    if data is not None:
        described = {"path": str(target.data), "pictures": findings.data_pictures, "digest": findings.data_digest}
    return Report(
        headrace=version("headrace"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        name=samples.name if samples is not None else f"self-check of {data.name if data is not None else ''}",
        settings=samples.settings if samples is not None else {},
        data=described,
        figures=findings.figures,
        cost=samples.cost if samples is not None else {},
        machine=samples.machine if samples is not None else {},
        self_checks=findings.checks,
        skipped=shorten(findings.skipped),
        skipped_count=len(findings.skipped),
        warnings=findings.warnings,
    )


def _write_grid(samples: Samples, out: Path) -> dict[str, str]:
    """A grid of the first pictures beside the report. Returns where it and the samples are."""
    source = samples.source
    if isinstance(source, FileSource):
        source = replace(source, paths=source.paths[:_GRID], labels=None, captions=None)
    grid = out.with_suffix(".png")
    batch = next(batches(source, first_size(source), _GRID, []))
    image = image_grid(batch.pictures, _COLUMNS)
    write_file(grid, lambda temporary: image.save(temporary, format="PNG"))
    return {"samples": samples.source.name, "grid": str(grid)}
