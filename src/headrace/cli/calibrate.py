"""`headrace calibrate blocks`: how much blocks change from row to row, and the cache schedule that follows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.generate import DTYPES
from headrace.errors import CalibrationError

app = typer.Typer(help="Measure a model once, for techniques that make it faster.", no_args_is_help=True)

EPILOG = """Examples:

headrace calibrate blocks emoji --solver dpm++2m --steps 20 --saving 0.3 --out emoji-blocks

headrace calibrate blocks --from emoji-blocks/schedule.json --delta 0.3

headrace calibrate blocks emoji --solver dpm++2m --kind all --criterion displacement --saving 0.3 --out emoji-together

headrace generate "red apple" --block-cache emoji-blocks/schedule.json"""

_STEPS, _SEEDS, _BATCH = 20, 2, 8


@app.command("blocks", epilog=EPILOG)
def blocks(
    model: Annotated[str | None, typer.Argument(help="embedded name or diffusers folder")] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="take the profile of this schedule.json: nothing is measured", metavar="FILE"),
    ] = None,
    solver: Annotated[str | None, typer.Option(help="ddim, dpm++2m, ... (default: the model's)")] = None,
    steps: Annotated[int | None, typer.Option(help=f"inference steps, at least 2 (default: {_STEPS})")] = None,
    guidance: Annotated[float | None, typer.Option(help="guidance scale; 1 is off (default: the model's)")] = None,
    prompts: Annotated[Path | None, typer.Option(help="text file, a prompt a line (default: 32 shipped ones)")] = None,
    seeds: Annotated[int | None, typer.Option(help=f"images of each prompt (default: {_SEEDS})")] = None,
    kind: Annotated[
        str, typer.Option(help="blocks to cache: transformer | resnet | all | branch; all are measured")
    ] = "transformer",
    criterion: Annotated[
        str,
        typer.Option(help="what limits reuse: change of a block (the paper's) | displacement of the latents"),
    ] = "change",
    delta: Annotated[
        float | None, typer.Option(help="change that a reused value may reach: the larger, the faster (default: 0.5)")
    ] = None,
    saving: Annotated[
        float | None, typer.Option(help="find the delta that leaves out this share of the network's work, 0 to 1")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="folder (default: outputs/calibrate/MODEL-SOLVER-STEPS, or one beside --from)"),
    ] = None,
    device: Annotated[str, typer.Option(help="torch device: cpu, cuda, cuda:0")] = "cpu",
    dtype: Annotated[str, typer.Option(help=" | ".join(DTYPES))] = "float32",
    batch: Annotated[int | None, typer.Option(help=f"images at once (default: {_BATCH})")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on standard output")] = False,
) -> None:
    """Measure how much each block changes from step to step, and choose what to reuse.

    Every transformer and ResNet block is measured at once (arXiv 2312.03209,
    equation 6), on 32 prompts or classes and two seeds.

    Writes profile.csv and profile.png (mean and deviation of each block),
    schedule.json (for --block-cache) and lifetimes.png (which rows reuse what).
    With --from, another delta, saving or kind is tried without measuring.
    """
    from headrace.cli.calibrate_options import MeasureOptions
    from headrace.cli.calibrate_run import measure, reschedule
    from headrace.techniques.block_caching.artefact import Choice

    measuring = {
        "MODEL": model, "--solver": solver, "--steps": steps, "--guidance": guidance, "--prompts": prompts,
        "--seeds": seeds, "--batch": batch,
    }  # fmt: skip
    choice = Choice(kind, delta, saving, criterion)  # type: ignore[arg-type]
    if source is not None:
        given = [name for name, value in measuring.items() if value is not None]
        if given:
            raise CalibrationError(f"{given[0]} was given beside --from, which measures nothing", "Leave one out")
        reschedule(source, choice, out, as_json)
        return
    if model is None:
        raise CalibrationError("no model was named", "Write, for example, headrace calibrate blocks emoji")
    options = MeasureOptions(
        model, solver, _STEPS if steps is None else steps, guidance, prompts, _SEEDS if seeds is None else seeds,
        device, dtype, _BATCH if batch is None else batch,
    )  # fmt: skip
    measure(options, choice, out, as_json)
