"""`headrace simulate`: policies on a virtual clock, before any hardware."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = """Examples:

headrace simulate --rates 0.5,0.75,1,1.25,1.5 --out loads

headrace simulate --trace burst:1x --policy continuous,synergetic,no-skipping --out burst

headrace simulate --trace poisson:2.5 --sizes 512,768x512 --steps 20-30 --deadline 60 --replicas 4

headrace simulate --trace arrivals.csv --latency-table latency.json --skip-window guidance.json --out mine"""


def simulate(
    trace: Annotated[
        str,
        typer.Option(
            help="a CSV or parquet file of arrivals, or poisson:RATE or burst:RATE, requests a second, or with an x "
            "multiples of the capacity"
        ),
    ] = "poisson:0.9x",
    policy: Annotated[
        str,
        typer.Option(
            help="sequential, dynamic, continuous, synergetic (all: these four), no-chunking, no-skipping, "
            "no-planning, no-control (ablations: these, too); several with commas"
        ),
    ] = "all",
    latency_table: Annotated[
        str, typer.Option(help="of headrace calibrate latency, or paper: the paper's contention, written by hand")
    ] = "paper",
    skip_window: Annotated[
        str | None,
        typer.Option(help="of headrace calibrate guidance, paper or none (default: paper with the paper's table)"),
    ] = None,
    floor: Annotated[
        float | None,
        typer.Option(help="expected similarity that skipping may not go below, 0 to 1 (default: the policy's own)"),
    ] = None,
    rates: Annotated[
        str | None, typer.Option(help="multiples of the capacity to compare, as 0.5,1,1.5: arrivals of --trace's kind")
    ] = None,
    requests: Annotated[
        int | None, typer.Option(min=1, help="how many (default: 2000, or all of a file)", show_default=False)
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(help="of drawn requests, WIDTHxHEIGHT or one side, as 512,768x512 (default: those of the table)"),
    ] = None,
    steps: Annotated[str, typer.Option(help="fewest and most of drawn requests")] = "20-50",
    guided: Annotated[float, typer.Option(min=0, max=1, help="share of drawn requests that use guidance")] = 1.0,
    deadline: Annotated[float | None, typer.Option(help="seconds that drawn requests may take")] = None,
    slots: Annotated[int, typer.Option(min=1, help="requests on a replica at once")] = 16,
    replicas: Annotated[int, typer.Option(min=1, help="machines, each with its own queue")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="of drawn requests")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="folder for simulation.json, the plots and a timeline of each policy")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on standard output")] = False,
) -> None:
    """Serve arrivals with every policy on a virtual clock, and compare throughput and latency.

    Rounds take what a latency table says; policies are the objects that drive the
    hardware. The capacity is what `continuous` (whole decodings beside the rows)
    serves when requests never lack.

    A trace file has the columns time (seconds), height, width, steps and may have
    guided (true), priority (0) and deadline (seconds, on the clock of time).

    Writes simulation.json; loads.png (throughput, mean and P99 latency by arrival rate)
    with --rates, otherwise run.png (latencies and the queue over time); and
    timeline-POLICY.png (rows, skips and decoder chunks of some rounds).
    """
    from headrace.cli.simulate_run import Asked, simulate_all

    asked = Asked(
        trace, policy, latency_table, skip_window, floor, rates, requests, sizes, steps, guided, deadline, slots,
        replicas, seed,
    )  # fmt: skip
    simulate_all(asked, out, as_json)
