"""`headrace calibrate latency`: how long rows and decodings take, alone and together, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.generate import DTYPES

EPILOG = """Examples:

headrace calibrate latency emoji --sizes 64x64,80x64,80x80 --out emoji-latency

headrace calibrate latency ~/models/stable-diffusion-v1-5 --sizes 512x512,768x768 --device cuda --dtype float16"""


def latency(
    model: Annotated[str, typer.Argument(help="embedded name or diffusers folder")],
    sizes: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT in pixels, several with commas (default: the model's)")
    ] = None,
    max_rows: Annotated[int, typer.Option(help="most denoising rows in a round")] = 16,
    max_decodings: Annotated[int, typer.Option(help="most decodings in a round")] = 4,
    max_chunks: Annotated[int, typer.Option(help="most chunks that a decoding is cut into")] = 4,
    lane: Annotated[
        str,
        typer.Option(help="how chunks run beside rows: auto (the best is measured) | interleaved | threads | streams"),
    ] = "auto",
    weight: Annotated[
        float, typer.Option(help="of rows against decodings where the chunk count is chosen, 0 to 1")
    ] = 0.5,
    repeats: Annotated[int, typer.Option(help="times that each round is measured; medians count")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="few points, for a first look")] = False,
    seed: Annotated[int, typer.Option(min=0, help="of the order, and of the points held out")] = 0,
    out: Annotated[Path | None, typer.Option(help="folder (default: outputs/calibrate/MODEL-latency)")] = None,
    device: Annotated[str, typer.Option(help="torch device: cpu, cuda, cuda:0")] = "cpu",
    dtype: Annotated[str, typer.Option(help=" | ".join(DTYPES))] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on standard output")] = False,
) -> None:
    """Measure the latencies that the scheduler plans with: rounds of denoising rows beside decoder chunks.

    Rounds of the real engine, in random order, a median each: rows that saturate
    a call, the chunk count that costs least, whether chunks run beside the rows or
    between them, and all combinations of rows, decodings, skipped guidance, size
    and chunks on a grid. Loads that are not on it tell the error in between.

    Writes latency.json, throughput.png and contention.png. Takes minutes; leave
    the machine alone meanwhile.
    """
    from headrace.cli.calibrate_latency_run import LatencyOptions, measure
    from headrace.cli.generate import EngineOptions

    options = LatencyOptions(
        EngineOptions(model, device, dtype, slots=1), sizes, max_rows, max_decodings, max_chunks, lane, repeats, quick,
        seed, weight,
    )  # fmt: skip
    measure(options, out, as_json)
