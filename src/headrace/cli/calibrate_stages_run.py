"""What `headrace calibrate stages` does: read the data, find the stages, write the files."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import typer

from headrace.cli.calibrate_display import calibration_bar
from headrace.cli.calibrate_options import LEAST_ROOM
from headrace.cli.pictures import prepare_folder, slug
from headrace.errors import CalibrationError, DataError
from headrace.pictures.decoding import decode_all, upright_size
from headrace.pictures.source import digest, open_source
from headrace.techniques.multistage.artefact import Method, StagesArtefact
from headrace.techniques.multistage.calibrate import Answer, Question, end_cuts
from headrace.techniques.multistage.kernel import kernel_of

if TYPE_CHECKING:
    from headrace.pictures.entry import PictureSource

_NEEDS_DATA = ("optimal-denoiser", "gradient")


@dataclass(frozen=True)
class StagesOptions:
    """What is measured, and on what. Raises `CalibrationError` for an unknown method or data that are not named."""

    method: str
    data: Path | None
    images: int | None
    size: int | None
    model: str
    question: Question

    def __post_init__(self) -> None:
        methods = get_args(Method)
        if self.method not in methods:
            raise CalibrationError(f"there is no method {self.method!r}", f"Use one of {', '.join(methods)}")
        if self.data is None and self.method in _NEEDS_DATA:
            raise CalibrationError(
                f"no data were named, and the method {self.method} needs some",
                "Write, for example, headrace calibrate stages cifar10-train.parquet",
            )
        if self.method == "gradient" and self.question.kernel != "vp":
            raise CalibrationError(
                f"gradients are of a variance-preserving model, not of the kernel {self.question.kernel!r}",
                "Leave --kernel out: the file has the boundaries as sigmas too",
            )
        for name, value, least in (("images", self.images, 2), ("size", self.size, 1)):
            if value is not None and value < least:
                raise CalibrationError(f"--{name} {value} is not accepted", f"Use at least {least}")

    @property
    def folder(self) -> Path:
        """Where files go if nothing else is said."""
        names = [] if self.data is None else [slug(self.data.stem)]
        return Path("outputs") / "calibrate" / "-".join([*names, self.method, str(self.question.stages)])


@dataclass(frozen=True)
class Measured:
    """An answer and the artefact's fields that are not in it."""

    answer: Answer
    identity: dict[str, Any]


def measure(options: StagesOptions, out: Path | None, as_json: bool) -> None:
    """Finds stages and writes the files. Everything that can be refused is, before any work."""
    from headrace.cli.calibrate_stages_plots import draw_curve, draw_heat_map

    folder = options.folder if out is None else out
    prepare_folder(folder, LEAST_ROOM)
    began = time.perf_counter()
    measured = {
        "optimal-denoiser": _by_denoiser, "gradient": _by_gradient, "timestep": _by_formula, "snr": _by_formula,
    }[options.method](options)  # fmt: skip
    seconds = time.perf_counter() - began
    answer, question = measured.answer, options.question
    artefact = StagesArtefact(
        method=options.method, kernel=question.kernel,  # type: ignore[arg-type]
        boundaries=answer.stages.boundaries, sigmas=answer.stages.sigmas,
        times=tuple(answer.times.tolist()), similarity=tuple(map(tuple, answer.similarity.tolist())),
        figures={"seconds": round(seconds, 1), **_figures(answer, question)}, **measured.identity,
    )  # fmt: skip
    artefact.save(folder / "stages.json")
    written = ["stages.json"]
    if answer.times.size:
        draw_heat_map(artefact, folder / "similarity.png")
        written.append("similarity.png")
    if answer.ends is not None:
        draw_curve(answer.ends, question, folder / "curve.png")
        written.append("curve.png")
    show(artefact, folder, written, as_json)


def show(artefact: StagesArtefact, folder: Path, written: list[str], as_json: bool) -> None:
    """The boundaries, and what other definitions give; or one JSON object."""
    if as_json:
        summary = {
            "stages": str(folder / "stages.json"), "method": artefact.method, "kernel": artefact.kernel,
            "boundaries": artefact.boundaries, "sigmas": artefact.sigmas, **artefact.figures,
        }  # fmt: skip
        typer.echo(json.dumps(summary))
        return
    for number, (begin, end) in enumerate(artefact.stages.intervals):
        typer.echo(f"stage {number}: t {begin:.3f} to {end:.3f}")
    typer.echo("as sigma (EDM, equal SNR): " + ", ".join(f"{sigma:.3g}" for sigma in artefact.sigmas))
    for name, value in artefact.figures.items():
        typer.echo(_line(name, value))
    typer.echo(f"written: {', '.join(written)} in {folder}")


def _line(name: str, value: float) -> str:
    """A figure in words: `t2_data_own` is what t2 is by data prediction with the end `own`."""
    cut, *definition = name.split("_")
    if not definition:
        return f"{name}: {value:g}"
    prediction, *end = definition
    return f"{cut} by {prediction} prediction{''.join(f', end {one}' for one in end)}: {value:g}"


def _figures(answer: Answer, question: Question) -> dict[str, float]:
    """What each definition that was measured makes of the same samples; left out where it finds no stage."""
    figures: dict[str, float] = {}
    if answer.ends is None:
        return figures
    for prediction, end in answer.ends.to_noise:
        with suppress(CalibrationError):
            first, last = end_cuts(answer.ends, replace(question, prediction=prediction, end=end))
            figures[f"t1_{prediction}"] = round(first, 4)
            figures[f"t2_{prediction}_{end}"] = round(last, 4)
    return figures


def _by_denoiser(options: StagesOptions) -> Measured:
    import torch

    from headrace.techniques.multistage.calibrate import stages_by_denoiser
    from headrace.techniques.multistage.optimal_denoiser import OptimalDenoiser

    source, pixels = _pixels(options, options.images)
    question = options.question
    denoiser = OptimalDenoiser(torch.from_numpy(pixels))
    with calibration_bar(question.evaluations, "noisy images") as advance, torch.inference_mode():
        answer = stages_by_denoiser(denoiser, question, advance)
    three = question.stages == 3
    identity = {
        "model": "optimal denoiser", "weights": digest(source), "data": _name(options), "images": len(pixels),
        "eta": question.eta, "alpha": question.alpha if three else None,
        "samples": question.samples if three else question.grid_samples,
        "definition": f"{question.prediction} prediction" + (f", end {question.end}" if three else ", Algorithm 2"),
    }  # fmt: skip
    return Measured(answer, identity)


def _by_gradient(options: StagesOptions) -> Measured:
    import torch

    from headrace.models.pipelines.fingerprint import pipeline_fingerprint
    from headrace.models.pipelines.loading import load
    from headrace.techniques.multistage.calibrate import GRADIENTS, stages_by_gradient

    pipeline = load(options.model)
    question = options.question
    _, pixels = _pixels(replace(options, size=pipeline.default_size[0]), question.grid_samples)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    with calibration_bar(GRADIENTS * len(images), "gradients") as advance:
        answer = stages_by_gradient(pipeline, images, question.stages, GRADIENTS, question.seed, advance)
    identity = {
        "model": pipeline.name, "weights": pipeline_fingerprint(pipeline), "data": _name(options),
        "images": len(pixels), "samples": len(pixels), "definition": f"cosine of gradients at {GRADIENTS} timesteps",
    }  # fmt: skip
    return Measured(answer, identity)


def _by_formula(options: StagesOptions) -> Measured:
    from headrace.techniques.multistage.calibrate import stages_by_snr, stages_by_time

    question = options.question
    find = stages_by_snr if options.method == "snr" else stages_by_time
    answer = find(question.stages, kernel_of(question.kernel))
    return Measured(answer, {"model": "none", "weights": "none", "data": "none", "images": 0, "samples": 0})


def _name(options: StagesOptions) -> str:
    """The data set's, without the folder it lies in: a file says nothing of the machine it was made on."""
    return options.data.name if options.data is not None else "none"


def _pixels(options: StagesOptions, limit: int | None) -> tuple[PictureSource, np.ndarray]:
    """The data, and uint8 [N, h, w, 3] of it. Raises `DataError`: nothing there, a corrupt picture, fewer than two."""
    assert options.data is not None  # checked where the options were made
    source = open_source(options.data, limit)
    if len(source) < 2:
        raise DataError(f"{source.name} holds one picture, which any noise level leads back to", "Give at least two")
    side = None if options.size is None else (options.size, options.size)
    size = side or upright_size(next(iter(source.entries())))
    if size is None:
        raise DataError(f"the first picture of {source.name} cannot be read", "Remove it, or name a --size")
    pixels = np.empty((len(source), *size, 3), np.uint8)
    with calibration_bar(len(source), "pictures read") as advance:
        for number, (_, picture) in enumerate(decode_all(source.entries(), size)):
            if isinstance(picture, DataError):
                raise picture
            pixels[number] = picture
            advance(1)
    return source, pixels
