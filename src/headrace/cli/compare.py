"""`headrace compare`: reports of evaluations side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from headrace.errors import OutputError

EPILOG = """Examples:

headrace compare ddim-10.json ddim-50.json --plot quality.png

headrace compare reports/*.json --metric recall --plot recall.png --json"""
_PLOTS = (".png", ".svg", ".pdf")


def compare(
    reports: Annotated[list[Path], typer.Argument(help="files that `headrace evaluate` wrote")],
    plot: Annotated[Path | None, typer.Option(help="quality against throughput, with Pareto front (.png)")] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="figure of the plot and the Pareto front: fid, recall, ... (default: the first that most have)"
        ),
    ] = None,
    machine_readable: Annotated[bool, typer.Option("--json", help="the table as one JSON object")] = False,
) -> None:
    """Show evaluations in one table, and draw quality against throughput.

    A report is named by what differs: the model, solver, steps, guidance. Figures of different extractors never share
    a column; other machines, data sets, numbers of pictures and slots are said below it. In the plot each model has its
    colour, and the Pareto front is what no other report beats in both.
    """
    if plot is not None and plot.suffix.lower() not in _PLOTS:
        raise OutputError(f"--plot {str(plot)!r} is not accepted", f"Its name ends with {' or '.join(_PLOTS)}")
    from headrace.cli.compare_display import as_json, show_comparison
    from headrace.evaluation.comparison import best_trades, compare_reports, plotted_column
    from headrace.evaluation.report import read_report

    comparison = compare_reports([read_report(path) for path in reports])
    front: list[str] | None = None
    if plot is not None or metric is not None:
        column = plotted_column(comparison, metric)
        front = best_trades(comparison, column)
    if plot is not None:
        from headrace.evaluation.comparison_plot import plot as draw

        draw(comparison, column, plot)
    if machine_readable:
        typer.echo(json.dumps(as_json(comparison, front), ensure_ascii=False))
    else:
        show_comparison(comparison, front)
        if front is not None:
            typer.echo(f"Pareto front: {'; '.join(front)}{f'; plot: {plot}' if plot is not None else ''}")
