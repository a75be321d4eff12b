"""`headrace calibrate scale-shift`: a network with its block cache learns to answer as without."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.generate import DTYPES

EPILOG = """Examples:

headrace calibrate scale-shift emoji-blocks/schedule.json --max-minutes 60

headrace calibrate scale-shift emoji-blocks/schedule.json --data noto-emoji-128.parquet --iterations 2000 --resume"""


def scale_shift(
    schedule: Annotated[Path, typer.Argument(help="of `headrace calibrate blocks`", metavar="SCHEDULE.json")],
    model: Annotated[
        str | None, typer.Option(help="embedded name or diffusers folder (default: the schedule's)")
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="text file, a prompt a line (default: 32 shipped ones)")] = None,
    data: Annotated[Path | None, typer.Option(help="data set whose captions are the prompts")] = None,
    iterations: Annotated[int, typer.Option(min=1, help="trajectories to learn from, --batch pictures each")] = 1000,
    max_minutes: Annotated[
        float | None, typer.Option(min=0.01, help="end after so many minutes: the learning rate decays with the clock")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="pictures at once")] = 4,
    learning_rate: Annotated[float, typer.Option(min=1e-9, max=0.99, help="peak; a cosine brings it to 0")] = 3e-4,
    seed: Annotated[int, typer.Option(min=0, help="prompts and noise follow from it")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="continue from the last checkpoint")] = False,
    out: Annotated[
        Path | None, typer.Option(help="folder of the run (default: scale-shift beside the schedule)")
    ] = None,
    dtype: Annotated[str, typer.Option(help=f"of the network: {' | '.join(DTYPES)}")] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on standard output")] = False,
) -> None:
    """Learn a scale and a shift for every reused value, so that caching costs less quality at the same speed.

    For each channel and timestep, after arXiv 2312.03209, section 3.4: the network with its cache makes pictures, and
    in each step learns to answer as it would without. The network's own weights stay as they are. Writes
    scale_shift.safetensors beside the schedule, where --block-cache finds it, and into --out checkpoints, log.csv,
    loss.png and samples: a row without a cache, one with plain caching, one with scale and shift.
    """
    from headrace.cli.calibrate_scale_shift_run import TrainOptions, train

    options = TrainOptions(
        schedule, model, prompts, data, iterations, max_minutes, batch, learning_rate, seed, resume, out, dtype
    )
    train(options, as_json)
