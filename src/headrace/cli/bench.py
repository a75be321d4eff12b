"""`headrace bench NAME`: a table for people, one line of JSON for scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def bench(
    name: Annotated[str, typer.Argument(help="solvers, throughput, embedded, ... ('list' prints them all)")],
    quick: Annotated[bool, typer.Option("--quick", help="a smaller load: within 60 seconds on two cores")] = False,
    model: Annotated[
        str,
        typer.Option(help="embedded name or diffusers folder, where one is used; with --url the server's name of it"),
    ] = "emoji",
    device: Annotated[str, typer.Option(help="torch device: cpu, cuda, cuda:0")] = "cpu",
    data: Annotated[Path | None, typer.Option(help="data set, where the benchmark takes one")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the JSON, tables and plots")] = None,
    url: Annotated[
        str | None, typer.Option(help="serving: a server of OpenAI's images API to measure in place of one's own")
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="serving: environment variable that holds the server's API key")
    ] = None,
) -> None:
    """Measure one claim on this machine: prints a table and ends with one line of JSON."""
    from rich.console import Console

    from headrace.benchmarks.registry import BenchOptions, benchmarks, load_benchmark

    if name == "list":
        for known, summary in benchmarks().items():
            typer.echo(f"{known:14} {summary}")
        return
    run = load_benchmark(name)
    console = Console(stderr=False, width=None)
    options = BenchOptions(
        quick=quick, model=model, device=device, data=data, out=out, url=url, api_key_env=api_key_env
    )
    figures = run(options, console)
    typer.echo(json.dumps(figures))
