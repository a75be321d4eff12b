"""`headrace train RECIPE.toml`: from a data set and a recipe to a diffusers folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = "Example: headrace train recipes/emoji.toml data.path=noto-emoji-128.parquet --out runs/emoji"


def train(
    recipe: Annotated[Path, typer.Argument(help="TOML file, see recipes/", metavar="RECIPE.toml")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="values that replace the recipe's, e.g. data.path=FILE", metavar="KEY=VALUE"),
    ] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(min=0.01, help="fit each phase into so many minutes: the learning rate decays with the clock"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the run [default: runs/NAME]")] = None,
    phase: Annotated[str | None, typer.Option(help="run this phase of the recipe only")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="continue from the last checkpoint of each phase")] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="also log for TensorBoard, into PHASE/tensorboard")
    ] = False,
) -> None:
    """Train a recipe's phases and write the model as a folder that diffusers loads.

    The run folder holds, for each phase, checkpoints, log.csv, loss.png and sample grids; and the model, float32 while
    it is trained (model/) and float16 when every component is there (under the recipe's name).
    """
    from accelerate import PartialState
    from rich.console import Console
    from transformers.utils import logging

    from headrace.training.recipe import load_recipe
    from headrace.training.run import RunOptions
    from headrace.training.run import train as run

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    loaded = load_recipe(recipe, overrides or [])
    folder = out or Path("runs") / loaded.name
    options = RunOptions(out=folder, minutes=max_minutes, resume=resume, phase=phase, tensorboard=tensorboard)
    result = run(loaded, options)
    if PartialState().is_main_process:
        Console(stderr=True, highlight=False).print(f"model: {result}", soft_wrap=True)
