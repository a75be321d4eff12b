"""`headrace study`: questions that a comparison of many settings answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.generate import DTYPES
from headrace.errors import DataError

app = typer.Typer(help="Answer a question about a model by measuring many settings in one run.", no_args_is_help=True)

EPILOG = """Examples:

headrace study steps emoji --data noto-emoji-128.parquet --out emoji-steps

headrace study steps ~/models/my-model --quick --out my-model-steps"""

_PICTURES, _QUICK_PICTURES, _BATCH = 256, 24, 16


@app.command("steps", epilog=EPILOG)
def steps(
    model: Annotated[str, typer.Argument(help="embedded name or diffusers folder")],
    out: Annotated[Path, typer.Option(help="folder for steps.csv, steps.json and steps.png")],
    data: Annotated[
        Path | None,
        typer.Option(help="real pictures with captions: adds recall and Frechet distance, and gives the prompts"),
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="text file, a prompt a line (default: 32 shipped ones)")] = None,
    counts: Annotated[
        str | None, typer.Option("--steps", help="numbers of steps (default: 5,8,10,15,20,30,40,50; quick: 5,10,20)")
    ] = None,
    solver: Annotated[str, typer.Option(help="ddim, dpm++2m, euler, unipc, ...")] = "dpm++2m",
    guidance: Annotated[float | None, typer.Option(help="guidance scale; 1 is off (default: the model's)")] = None,
    pictures: Annotated[
        int | None, typer.Option(help=f"for each setting (default: {_PICTURES}; quick: {_QUICK_PICTURES})")
    ] = None,
    batch: Annotated[int, typer.Option(help="pictures made at a time, and timed so", min=1)] = _BATCH,
    quick: Annotated[
        bool, typer.Option("--quick", help="three numbers of steps, plain and everything together")
    ] = False,
    device: Annotated[str, typer.Option(help="torch device: cpu, cuda, cuda:0")] = "cpu",
    dtype: Annotated[str, typer.Option(help=" | ".join(DTYPES))] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on standard output")] = False,
) -> None:
    """Fewer denoising steps or cheaper ones: which makes the better pictures at equal cost?

    Plain sampling at several numbers of steps against PostDiff's cheaper steps:
    half of them at half size, guidance dropped after three quarters, the deep
    branch evaluated every second step, and all of it together.

    All is made in one run, in turns. Operations are counted while a picture is
    made, time is taken of whole batches. Says over which part of the range of
    equal operations, and of equal latency, cheaper steps win.
    """
    from headrace.cli.study_run import StudyOptions, run

    options = StudyOptions(
        model, out, data, prompts, _counts(counts), solver, guidance,
        pictures or (_QUICK_PICTURES if quick else _PICTURES), batch, quick, device, dtype,
    )  # fmt: skip
    run(options, as_json)


def _counts(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise DataError(
            f"--steps {text!r} is no list of whole numbers", "Write, for example, --steps 5,10,20"
        ) from None
