"""What `headrace calibrate blocks` does: measure or read a profile, choose a schedule, write the files."""

from __future__ import annotations

from pathlib import Path

from headrace.cli.calibrate_display import calibration_bar, show
from headrace.cli.calibrate_options import LEAST_ROOM, MeasureOptions, prepare
from headrace.cli.pictures import prepare_folder
from headrace.errors import CalibrationError
from headrace.models.pipelines.base import Pipeline
from headrace.techniques.block_caching.artefact import BlockCacheArtefact, Choice, cached_blocks, solver_identity
from headrace.techniques.block_caching.calibrate import check_profile, measure_work, profile
from headrace.techniques.block_caching.displacement import measure_displacement
from headrace.techniques.block_caching.schedule import check_target, most_saving

_DISPLACED_IMAGES, _DISPLACED_BATCH = 8, 2  # the best rows settle early; a batch holds the values of several rows


def measure(options: MeasureOptions, choice: Choice, out: Path | None, as_json: bool) -> None:
    """Measures a model and writes the files into `out`. Everything that can be refused is, before any work."""
    subject = prepare(options, out)
    pipeline, requests, plan = subject.pipeline, subject.requests, subject.plan
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
        steps=options.steps, solver_name=options.solver, guidance_scale=subject.guidance_scale,
    )  # fmt: skip
    _write(artefact, subject.folder)
    show(artefact, subject.folder, as_json)


def reschedule(source: Path, choice: Choice, out: Path | None, as_json: bool) -> None:
    """Chooses another schedule from a file's profile and writes it, by default into a folder beside the file."""
    artefact = BlockCacheArtefact.load(source).rebuilt(choice)
    criterion = "" if choice.criterion == "change" else f"-{choice.criterion}"
    folder = out or source.parent / f"{choice.kind}{criterion}-{artefact.delta:.4g}"
    if (folder / "schedule.json").resolve() == source.resolve():
        raise CalibrationError(f"--out {str(folder)!r} is where {source.name} lies", "Give another folder with --out")
    prepare_folder(folder, LEAST_ROOM)
    _write(artefact, folder)
    show(artefact, folder, as_json)


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
