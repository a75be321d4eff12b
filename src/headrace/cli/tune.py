"""`headrace tune`: the cheapest settings for a wanted quality, or the best quality for a wanted speed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = """Examples:

headrace tune emoji --data noto-emoji-128.parquet --exclude "skin tone" --target-speedup 2.5 --out tuned

headrace tune stable-diffusion-v1-5/ --data prompts.txt --min-quality 0.9 --quick

headrace generate "red apple" --acceleration tuned/acceleration.json"""

_PROMPTS, _QUICK_PROMPTS = 500, 24
_BATCH, _QUICK_BATCH = 4, 3


def tune(
    model: Annotated[str, typer.Argument(help="embedded name or diffusers folder of a text-to-image model")],
    data: Annotated[
        Path, typer.Option(help="a prompt a line, or a parquet table of captions, with pictures or without")
    ],
    target_speedup: Annotated[
        float | None, typer.Option(help="times as fast as plain sampling; the best quality at that speed is chosen")
    ] = None,
    min_quality: Annotated[
        float | None, typer.Option(help="least quality, 0 to 1; the fastest that has it is chosen")
    ] = None,
    prompts: Annotated[
        int | None,
        typer.Option(help=f"how many, half of them to confirm (default: {_PROMPTS}; quick: {_QUICK_PROMPTS})"),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="few prompts and settings, for a first look")] = False,
    metric: Annotated[
        str | None,
        typer.Option(help="recall (of the data's own pictures; default where it has them) | similarity (to plain)"),
    ] = None,
    extractor: Annotated[
        str, typer.Option(help="features of similarity and Frechet distance, as of headrace evaluate")
    ] = "colour-gradients",
    solver: Annotated[str | None, typer.Option(help="of plain sampling (default: the model's)")] = None,
    steps: Annotated[int, typer.Option(min=2, help="of plain sampling; fewer are searched")] = 20,
    guidance: Annotated[float | None, typer.Option(help="guidance scale (default: the model's)")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="leave out captions that hold this; several")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the search, and of the first picture")] = 0,
    out: Annotated[Path | None, typer.Option(help="folder (default: outputs/tune/MODEL)")] = None,
    device: Annotated[str, typer.Option(help="torch device: cpu, cuda, cuda:0")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32 | float16 | bfloat16")] = "float32",
    batch: Annotated[
        int | None, typer.Option(min=1, help=f"pictures at once (default: {_BATCH}; quick: {_QUICK_BATCH})")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on standard output")] = False,
) -> None:
    """Search solver, steps and every technique together for the best trades of speed and quality.

    Steps, guidance cut-off, mixed resolution, module caching and block caching
    are tried jointly: many settings on few prompts, the best on more. Speed is
    measured in turns with plain sampling. What is chosen is measured once more on
    prompts that the search did not see.

    Writes front.png, front.json and acceleration.json (for --acceleration). A run that
    stopped goes on where it was, with the same command.
    """
    from headrace.tuning.wish import Wish

    wish = Wish(target_speedup, min_quality)  # refused before anything heavy is imported

    from headrace.cli.generate import EngineOptions
    from headrace.cli.tune_run import TuneOptions, run

    count = prompts if prompts is not None else _QUICK_PROMPTS if quick else _PROMPTS
    together = batch if batch is not None else _QUICK_BATCH if quick else _BATCH
    options = TuneOptions(
        EngineOptions(model, device, dtype, slots=together), data, wish, count, quick, metric, extractor, solver, steps,
        guidance, tuple(exclude or ()), seed,
    )  # fmt: skip
    run(options, out, as_json)
