"""`headrace compare`: reports of evaluations side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.errors import OutputError

if TYPE_CHECKING:
    from headrace.evaluation.comparison import Comparison

_PLOTS = (".png", ".svg", ".pdf")


def compare(
    reports: Annotated[list[Path], typer.Argument(help="files that `headrace evaluate` wrote")],
    plot: Annotated[Path | None, typer.Option(help="quality against throughput, with Pareto front (.png)")] = None,
    metric: Annotated[str | None, typer.Option(help="figure to plot (default: the first that most have)")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the table as one JSON object")] = False,
) -> None:
    """Show evaluations in one table, and draw quality against throughput.

    Figures of different extractors never share a column, and what keeps others from being compared is said below it.
    """
    if plot is not None and plot.suffix.lower() not in _PLOTS:
        raise OutputError(f"--plot {str(plot)!r} is not accepted", f"Its name ends with {' or '.join(_PLOTS)}")
    from headrace.evaluation.comparison import compare_reports, plotted_column
    from headrace.evaluation.report import read_report

    comparison = compare_reports([read_report(path) for path in reports])
    front: list[str] | None = None
    if plot is not None:
        from headrace.evaluation.comparison_plot import plot as draw

        front = draw(comparison, plotted_column(comparison, metric), plot)
    if as_json:
        typer.echo(json.dumps(_as_json(comparison, front), ensure_ascii=False))
    else:
        _show(comparison)
        if front is not None:
            typer.echo(f"Pareto front: {'; '.join(front)}; plot: {plot}")


def _show(comparison: Comparison) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from headrace.cli.evaluate_display import COST_NAMES, amount, number

    console = Console(highlight=False)
    table = Table(title=escape(", ".join(dict.fromkeys(report.name for report in comparison.reports))))
    table.add_column("figure", no_wrap=True)
    for name in comparison.names:
        table.add_column(escape(name))
    for column in comparison.columns:
        found = [comparison.figure(row, column) for row in range(len(comparison.reports))]
        table.add_row(
            escape(comparison.title(column).replace(" [", "\n[")),
            *("" if one is None else number(one) for one in found),
        )
    table.add_section()
    for key, heading in COST_NAMES.items():
        values = [report.cost.get(key) for report in comparison.reports]
        table.add_row(heading, *("" if value is None else amount(key, value) for value in values))
    console.print(table)
    for note in comparison.notes:
        console.print(f"[yellow]note:[/] {escape(note)}")


def _as_json(comparison: Comparison, front: list[str] | None) -> dict[str, Any]:
    rows = []
    for row, report in enumerate(comparison.reports):
        found = {comparison.title(column): comparison.figure(row, column) for column in comparison.columns}
        values = {title: figure.value for title, figure in found.items() if figure is not None}
        rows.append({"name": comparison.names[row], "figures": values, "cost": report.cost})
    return {"reports": rows, "notes": list(comparison.notes), "pareto_front": front}
