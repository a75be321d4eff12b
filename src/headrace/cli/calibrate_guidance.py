"""`headrace calibrate guidance`: what it costs a picture that rows go unguided."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.generate import DTYPES

EPILOG = """Examples:

headrace calibrate guidance emoji --solver dpm++2m --steps 20 --out emoji-guidance

headrace calibrate guidance ~/models/stable-diffusion-v1-5 --dino ~/models/dinov2-base --steps 50 --device cuda"""


def guidance(
    model: Annotated[str, typer.Argument(help="embedded name or diffusers folder of a guided model")],
    solver: Annotated[str | None, typer.Option(help="ddim, dpm++2m, ... (default: the model's)")] = None,
    steps: Annotated[int, typer.Option(help="inference steps, at least 2")] = 20,
    guidance: Annotated[float | None, typer.Option(help="guidance scale, above 1 (default: the model's)")] = None,
    prompts: Annotated[Path | None, typer.Option(help="text file, a prompt a line (default: 32 shipped ones)")] = None,
    seeds: Annotated[int, typer.Option(help="images of each prompt")] = 1,
    starts: Annotated[int, typer.Option(help="first skipped rows that are tried, at even distances; at least 2")] = 10,
    quick: Annotated[bool, typer.Option("--quick", help="8 images and 5 starts, for a first look")] = False,
    dino: Annotated[
        Path | None, typer.Option(help="DINOv2 folder of transformers, whose features are compared", metavar="FOLDER")
    ] = None,
    extractor: Annotated[
        str, typer.Option(help="whose features are compared without --dino, as of headrace evaluate")
    ] = "colour-gradients",
    centred: Annotated[
        bool | None,
        typer.Option("--centred/--raw", help="without the features' mean, or with it (default: --raw with --dino)"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder (default: outputs/calibrate/MODEL-SOLVER-STEPS-guidance)")
    ] = None,
    device: Annotated[str, typer.Option(help="torch device: cpu, cuda, cuda:0")] = "cpu",
    dtype: Annotated[str, typer.Option(help=" | ".join(DTYPES))] = "float32",
    batch: Annotated[int, typer.Option(help="images at once")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on standard output")] = False,
) -> None:
    """Measure how similar pictures stay where guidance is skipped: from which row on, and in how many rows.

    The rows that are skipped lie one behind the other, as under load, which is also
    the worst way to skip so many. Similarity is the cosine of DINOv2 features where
    a folder is given, or else of features that need no weights, less their mean.

    Writes window.json (for the scheduler: a quality threshold tau becomes the rows
    that may be skipped) and similarity.png.
    """
    from headrace.cli.calibrate_guidance_run import GuidanceOptions, measure
    from headrace.cli.calibrate_options import MeasureOptions

    measured = MeasureOptions(model, solver, steps, guidance, prompts, seeds, device, dtype, batch)
    measure(GuidanceOptions(measured, starts, quick, dino, extractor, centred), out, as_json)
