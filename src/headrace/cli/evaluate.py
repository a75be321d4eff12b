"""`headrace evaluate`: how good the pictures of a model or a folder are, and what they cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.fusion import HELP
from headrace.errors import RequestError
from headrace.request import Request

EPILOG = """Examples:

headrace evaluate runs/cifar10/model --data cifar10-train.parquet --samples 5000 --extractor cifar10-classifier

headrace evaluate runs/cifar10/model --data cifar10-train.parquet -n 5000 --setting ddpm:1000 --setting ddim:50
--setting ddim:20 --setting dpm++2m:20 --out reports

headrace evaluate emoji --data noto-emoji.parquet --samples 500 --inception-weights inception.safetensors

headrace evaluate pictures/ --data photos/ --clip clip-vit-large-patch14/ --reference originals/

headrace evaluate --self-check --data cifar10-train.parquet --held-out cifar10-test.parquet

FID weights are read as safetensors only. Convert pytorch-fid's file on a machine where you trust it:
python -c "import torch; from safetensors.torch import save_file;
save_file(torch.load('pt_inception-2015-12-05-6726825d.pth', weights_only=True), 'inception.safetensors')"
"""
_SAMPLING, _METRICS, _DATA, _FILES = "Sampling", "Extractors", "What is compared", "Files"


def evaluate(
    model: Annotated[str | None, typer.Argument(help="embedded name, diffusers folder, or pictures")] = None,
    data: Annotated[
        Path | None, typer.Option(help="data set: folder, parquet, saved dataset", rich_help_panel=_DATA)
    ] = None,
    data_samples: Annotated[
        int | None, typer.Option(help="only so many of its pictures, evenly", rich_help_panel=_DATA)
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="folder of pictures to compare pair by pair", rich_help_panel=_DATA)
    ] = None,
    self_check: Annotated[
        bool, typer.Option("--self-check", help="the data set against itself, noise, ...", rich_help_panel=_DATA)
    ] = False,
    held_out: Annotated[
        Path | None, typer.Option(help="more of its kind, for --self-check: the floor", rich_help_panel=_DATA)
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            "-n",
            help="pictures to make, or to take (default: 1000; held out: all)",
            rich_help_panel=_SAMPLING,
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(help="SOLVER:STEPS, such as ddim:50; several, one report each", rich_help_panel=_SAMPLING),
    ] = None,
    solver: Annotated[
        str | None, typer.Option(help="ddim, dpm++2m, ... (default: the model's)", rich_help_panel=_SAMPLING)
    ] = None,
    steps: Annotated[int | None, typer.Option(help="inference steps (default: 20)", rich_help_panel=_SAMPLING)] = None,
    guidance: Annotated[
        float | None, typer.Option(help="guidance scale (default: the model's)", rich_help_panel=_SAMPLING)
    ] = None,
    fusion: Annotated[str | None, typer.Option(help=HELP, metavar="POLICY", rich_help_panel=_SAMPLING)] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="one a line (default: the data set's captions)", rich_help_panel=_SAMPLING)
    ] = None,
    seed: Annotated[int, typer.Option(help="of the first picture; the next add 1, ...", rich_help_panel=_SAMPLING)] = 0,
    device: Annotated[str, typer.Option(help="torch device: cpu, cuda, cuda:0", rich_help_panel=_SAMPLING)] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32 | float16 | bfloat16", rich_help_panel=_SAMPLING)] = "float32",
    slots: Annotated[int, typer.Option(min=1, help="pictures in memory at once", rich_help_panel=_SAMPLING)] = 32,
    extractor: Annotated[
        list[str] | None,
        typer.Option(help="colour-gradients, inception, clip, dino, a classifier; several", rich_help_panel=_METRICS),
    ] = None,
    inception_weights: Annotated[
        Path | None, typer.Option(help="FID Inception weights, .safetensors (see below)", rich_help_panel=_METRICS)
    ] = None,
    clip: Annotated[
        Path | None, typer.Option(help="CLIP folder in transformers format", rich_help_panel=_METRICS)
    ] = None,
    dino: Annotated[
        Path | None, typer.Option(help="DINOv2 folder in transformers format", rich_help_panel=_METRICS)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="report; with several settings their folder (default: by the samples)", rich_help_panel=_FILES
        ),
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="folder that samples are kept in, to resume from", rich_help_panel=_FILES)
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="folder for the features of data sets", rich_help_panel=_FILES)
    ] = None,
    machine_readable: Annotated[
        bool, typer.Option("--json", help="the report on standard output", rich_help_panel=_FILES)
    ] = False,
) -> None:
    """Measure pictures against a data set: distances, precision, recall, and what they cost.

    A model's pictures are made through the engine and kept: a second run makes only those that are missing, and more
    --samples add to them. A class-conditional model makes its classes in turn. Give a folder or a parquet file in place
    of the model to measure pictures that exist.
    """
    _check_counts(samples=samples, data_samples=data_samples)
    _check_comparison(model, data, reference, self_check)
    if held_out is not None and not self_check:
        raise RequestError("held-out", "--held-out is a part of the self-check", "Add --self-check")

    from headrace.cli.evaluate_settings import choose_settings

    request = Request.parse({"guidance_scale": guidance, "seed": seed})
    settings = choose_settings(setting or [], solver, steps)
    for one in settings:
        one.applied_to(request)  # raises here what a setting gets wrong

    from headrace.cli.evaluate_run import Destinations, Target, run  # heavy, so only when the options are right
    from headrace.cli.evaluate_samples import SampleOptions
    from headrace.cli.generate import EngineOptions
    from headrace.evaluation.extractors.registry import ExtractorOptions

    count = 1000 if samples is None else samples
    sampling = SampleOptions(EngineOptions(model or "", device, dtype, slots, fusion), count, request, prompts, data)
    target = Target(model, data, reference, data_samples, self_check, held_out, samples)
    extractors = ExtractorOptions(tuple(extractor or ()), inception_weights, clip, dino, device)
    if not run(target, sampling, settings, extractors, Destinations(out, work, cache, machine_readable)):
        raise typer.Exit(1)


def _check_counts(**counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and value < 2:
            option = name.replace("_", "-")
            raise RequestError(option, f"--{option} {value} is not accepted", "Statistics need at least 2 pictures")


def _check_comparison(model: str | None, data: Path | None, reference: Path | None, self_check: bool) -> None:
    """Raises `RequestError` where nothing is evaluated, or against nothing."""
    if model is None and not self_check:
        raise RequestError("model", "nothing to evaluate is given", "Name a model or a folder, or add --self-check")
    if data is None and self_check:
        raise RequestError("data", "a self-check needs a data set", "Add --data FOLDER or --data FILE.parquet")
    if data is None and reference is None:
        raise RequestError("data", "there is nothing to compare with", "Add --data (a set) or --reference (pairs)")
