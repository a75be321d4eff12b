"""One run of `headrace evaluate`: for each setting pictures, figures and a report; then the comparison."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console

from headrace.cli.compare_display import as_json, show_comparison
from headrace.cli.evaluate_display import extraction_bars, show
from headrace.cli.evaluate_jobs import SampleOptions
from headrace.cli.evaluate_report import write_report
from headrace.cli.evaluate_samples import Sampler, Samples, find_pictures, is_pictures
from headrace.cli.evaluate_settings import Setting
from headrace.cli.pictures import prepare_folder, read_settings
from headrace.errors import OutputError, RequestError
from headrace.evaluation.cache import FeatureCache, default_cache
from headrace.evaluation.comparison import compare_reports, plotted_column
from headrace.evaluation.comparison_plot import plot
from headrace.evaluation.evaluate import Evaluation, Findings, add_new
from headrace.evaluation.extractors.extractor import FeatureExtractor
from headrace.evaluation.extractors.registry import ExtractorOptions, build_extractors
from headrace.evaluation.extractors.transformers_folder import VisionFolder
from headrace.evaluation.figures import MetricOptions
from headrace.evaluation.paired import pair_up, paired_figures
from headrace.evaluation.report import Report
from headrace.files import write_json
from headrace.pictures.folder import FileSource
from headrace.pictures.source import open_source

_ROOM = 16 << 20  # bytes
_OUTPUTS = Path("outputs") / "evaluate"
# Two pictures are a pair where these agree: the same request, whatever the model, the solver or the plan.
_SAME_REQUEST = ("prompt", "negative_prompt", "class_label", "seed", "height", "width")


@dataclass(frozen=True)
class Target:
    """What is evaluated (a model or pictures; None: nothing, for a self-check), and against what."""

    model: str | None
    data: Path | None
    reference: Path | None = None
    data_samples: int | None = None
    self_check: bool = False
    held_out: Path | None = None
    held_out_samples: int | None = None


@dataclass(frozen=True)
class Destinations:
    """The report's file (a folder for several reports), the folders of samples and features; None for the defaults."""

    out: Path | None
    work: Path | None
    cache: Path | None
    as_json: bool


def run(
    target: Target,
    sampling: SampleOptions,
    settings: Sequence[Setting],
    extractors: ExtractorOptions,
    to: Destinations,
) -> bool:
    """Everything, cheap checks first. Returns whether all self-checks passed. Raises `HeadraceError`."""
    data = None if target.data is None else open_source(target.data, target.data_samples)
    held_out = None if target.held_out is None else open_source(target.held_out, target.held_out_samples)
    references = None if target.reference is None else _files(target.reference)
    cache = _prepared_cache(to.cache)
    if to.out is not None:
        prepare_folder(to.out if len(settings) > 1 else to.out.parent, _ROOM)
    built = build_extractors(extractors)
    sets = _sample_sets(target, sampling, settings, to)
    evaluation = Evaluation(data, built, cache, MetricOptions(device=extractors.device))
    checked = Findings()
    if target.self_check:
        with extraction_bars() as watch:
            checked = evaluation.check(held_out, watch)
    if target.model is None:
        out = to.out or (to.work or _OUTPUTS / "self-check") / "report.json"
        _tell(write_report(None, checked, data, out), out, to.as_json)
    reports: list[Report] = []
    files: list[Path] = []
    for samples, out in sets:
        with extraction_bars() as watch:
            findings = evaluation.measure(samples.source, watch)
        if references is not None:
            _compare_pairs(samples, references, built, findings)
        findings.checks = checked.checks if not reports else []
        reports.append(write_report(samples, findings, data, out))
        files.append(out)
        if not to.as_json or len(settings) == 1:
            _tell(reports[-1], out, to.as_json)
    if len(reports) > 1:
        _compare(reports, files, to.as_json)
    return all(check.passed for check in checked.checks)


def _prepared_cache(folder: Path | None) -> FeatureCache:
    folder = folder or default_cache()
    try:
        prepare_folder(folder, _ROOM)
    except OutputError as error:
        raise OutputError(error.problem, "Give another folder for the features of data sets with --cache") from None
    return FeatureCache(folder)


def _sample_sets(
    target: Target, sampling: SampleOptions, settings: Sequence[Setting], to: Destinations
) -> Iterator[tuple[Samples, Path]]:
    """Samples and their report's file, made one after another as they are taken; the model is loaded at once."""
    if target.model is None:
        return iter(())
    if is_pictures(target.model):
        found = find_pictures(Path(target.model).expanduser(), sampling.count, to.work)
        return iter([(found, to.out or found.work / "report.json")])
    sampler = Sampler(sampling, settings)
    if len(settings) == 1:
        work = to.work or sampler.work_folder(settings[0])
        places = [(settings[0], work, to.out or work / "report.json")]
    else:
        folder = to.out or to.work or _OUTPUTS / sampler.name
        works = [to.work / one.stem if to.work is not None else sampler.work_folder(one) for one in settings]
        places = [(one, work, folder / f"{one.stem}.json") for one, work in zip(settings, works, strict=True)]
    return ((sampler.samples(setting, work), out) for setting, work, out in places)


def _tell(report: Report, file: Path, machine_readable: bool) -> None:
    if machine_readable:
        typer.echo(file.read_text(encoding="utf-8"), nl=False)
        return
    console = Console(soft_wrap=True, highlight=False)
    show(report, console)
    console.print(f"report: {file}")


def _compare(reports: list[Report], files: list[Path], machine_readable: bool) -> None:
    """Writes the comparison of several settings beside their reports, and shows it."""
    comparison = compare_reports(reports)
    # In a folder of their own, so that *.json beside it are the reports.
    table, drawing = (files[0].parent / "comparison" / name for name in ("table.json", "front.png"))
    front = plot(comparison, plotted_column(comparison), drawing)
    described = as_json(comparison, front)
    write_json(table, described)
    if machine_readable:
        dumped = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        typer.echo(json.dumps({"reports": dumped, "comparison": described}, indent=2))
    else:
        show_comparison(comparison, front)
        typer.echo(f"comparison: {table}, {drawing}")


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
