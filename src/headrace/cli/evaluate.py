"""`headrace evaluate`: how good the pictures of a model or a folder are, and what they cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.errors import RequestError
from headrace.request import Request


def evaluate(
    model: Annotated[str | None, typer.Argument(help="embedded name, diffusers folder, or pictures")] = None,
    data: Annotated[Path | None, typer.Option(help="data set: folder of images, or parquet file")] = None,
    samples: Annotated[int, typer.Option("--samples", "-n", help="pictures to make, or to take of a folder")] = 1000,
    extractor: Annotated[list[str] | None, typer.Option(help="colour-gradients, inception, clip, dino, ...")] = None,
    inception_weights: Annotated[Path | None, typer.Option(help="FID Inception weights, .safetensors")] = None,
    clip: Annotated[Path | None, typer.Option(help="CLIP folder in transformers format")] = None,
    dino: Annotated[Path | None, typer.Option(help="DINOv2 folder in transformers format")] = None,
    reference: Annotated[Path | None, typer.Option(help="folder of pictures to compare pair by pair")] = None,
    prompts: Annotated[Path | None, typer.Option(help="one prompt a line (default: the data set's captions)")] = None,
    steps: Annotated[int, typer.Option(help="inference steps")] = 20,
    solver: Annotated[str | None, typer.Option(help="ddim, dpm++2m, ... (default: the model's)")] = None,
    guidance: Annotated[float | None, typer.Option(help="guidance scale (default: the model's)")] = None,
    seed: Annotated[int, typer.Option(help="of the first picture; the next add 1, 2, ...")] = 0,
    data_samples: Annotated[int | None, typer.Option(help="only so many pictures of the data, evenly")] = None,
    device: Annotated[str, typer.Option(help="torch device: cpu, cuda, cuda:0")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32 | float16 | bfloat16")] = "float32",
    slots: Annotated[int, typer.Option(min=1, help="pictures in memory at once")] = 32,
    self_check: Annotated[bool, typer.Option("--self-check", help="the data set against itself and noise")] = False,
    out: Annotated[Path | None, typer.Option(help="report (default: report.json in the work folder)")] = None,
    work: Annotated[Path | None, typer.Option(help="folder that samples are kept in, to resume from")] = None,
    cache: Annotated[Path | None, typer.Option(help="folder for the features of data sets")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the report on standard output")] = False,
) -> None:
    """Measure pictures against a data set: distances, precision, recall, and what they cost.

    A model's pictures are made through the engine and kept: a second run makes only those that are missing. Give a
    folder or a parquet file in place of the model to measure pictures that exist.
    """
    for name, value in (("samples", samples), ("data-samples", data_samples)):
        if value is not None and value < 2:
            raise RequestError(name, f"--{name} {value} is not accepted", "Statistics need at least 2 pictures")
    _check_comparison(model, data, reference, self_check)
    fields = {"steps": steps, "solver": solver, "guidance_scale": guidance, "seed": seed}
    request = Request.parse({name: value for name, value in fields.items() if value is not None})

    from headrace.cli.evaluate_run import Destinations, Target, run  # heavy, so only when the options are right
    from headrace.cli.evaluate_samples import SampleOptions
    from headrace.cli.generate import EngineOptions
    from headrace.evaluation.extractors.registry import ExtractorOptions

    sampling = SampleOptions(EngineOptions(model or "", device, dtype, slots), samples, request, prompts, data)
    target = Target(model, data, reference, data_samples, self_check)
    extractors = ExtractorOptions(tuple(extractor or ()), inception_weights, clip, dino, device)
    if not run(target, sampling, extractors, Destinations(out, work, cache, as_json)):
        raise typer.Exit(1)


def _check_comparison(model: str | None, data: Path | None, reference: Path | None, self_check: bool) -> None:
    """Raises `RequestError` where nothing is evaluated, or against nothing."""
    if model is None and not self_check:
        raise RequestError("model", "nothing to evaluate is given", "Name a model or a folder, or add --self-check")
    if data is None and self_check:
        raise RequestError("data", "a self-check needs a data set", "Add --data FOLDER or --data FILE.parquet")
    if data is None and reference is None:
        raise RequestError("data", "there is nothing to compare with", "Add --data (a set) or --reference (pairs)")
