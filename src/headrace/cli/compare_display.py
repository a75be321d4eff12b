"""What `headrace compare` shows of a comparison, and its JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from headrace.cli.evaluate_display import COST_NAMES, amount
from headrace.evaluation.comparison import Comparison, higher_is_better

# The widths that a table of any number of reports can spare; the others stand in the reports and in the JSON.
_SHORT = {"network_rows_a_picture": "rows", "macs_a_picture": "MACs", "peak_memory_bytes": "memory"}
_WIDE = 100
"""Columns of a terminal from which on the table has MACs and memory too."""
_SPARED = ("macs_a_picture", "peak_memory_bytes")
_COSTS = ("images_per_second", "network_rows_a_picture", "macs_a_picture", "parameters", "peak_memory_bytes")


def show_comparison(comparison: Comparison, front: Sequence[str] | None = None) -> None:
    """A line for each report, the best of each column bold; `front`: names to be marked with a star."""
    console = Console(highlight=False)
    title = ", ".join(comparison.models)
    single = len({column[1:] for column in comparison.columns if column[1] is not None}) == 1
    table = Table(
        title=escape(f"{title} as {comparison.extractors[0]} sees it" if single else title),
        title_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
    )
    cells = _told_by(comparison, table, front or ())
    for column in comparison.columns:
        arrow = "↑" if higher_is_better(column) else "↓"
        heading = column[0] if single else comparison.title(column)
        heading = heading.replace("_", "\n").replace(" [", "\n[")
        table.add_column(escape(f"{arrow}{heading}"), justify="right")
        found = [comparison.figure(row, column) for row in range(len(comparison.reports))]
        values = [figure.value for figure in found if figure is not None]
        best = max(values) if higher_is_better(column) else min(values)
        for row, figure in enumerate(found):
            text = "" if figure is None else f"{figure.value:.3g}"
            cells[row].append(f"[bold]{text}[/]" if figure is not None and figure.value == best else text)
    for key in _COSTS:
        if key in _SPARED and console.width < _WIDE:
            continue
        costs = [report.cost.get(key) for report in comparison.reports]
        if len({cost for cost in costs if cost is not None}) > (1 if key == "parameters" else 0):
            table.add_column(_SHORT.get(key, COST_NAMES[key]), justify="right")
            for row, cost in enumerate(costs):
                cells[row].append("" if cost is None else amount(key, cost))
    for line in cells:
        table.add_row(*line)
    console.print(table)
    if front:
        console.print("* on the Pareto front of quality and throughput")
    for note in comparison.notes:
        console.print(f"[yellow]note:[/] {escape(note)}")


def _told_by(comparison: Comparison, table: Table, front: Sequence[str]) -> list[list[str]]:
    """Heads the columns that say which report a line is, and begins the lines: the model where there are several."""
    labels = comparison.labels if len(set(comparison.labels)) == len(comparison.labels) else comparison.names
    several = len(comparison.models) > 1
    if several:
        labels = comparison.labels
        table.add_column("model", no_wrap=True)
    table.add_column("setting", no_wrap=True)
    cells = []
    for name, label, report in zip(comparison.names, labels, comparison.reports, strict=True):
        star = "* " if name in front else ""
        cells.append([*([escape(report.name)] if several else []), f"{star}{escape(label)}"])
    return cells


def as_json(comparison: Comparison, front: Sequence[str] | None) -> dict[str, Any]:
    """The table as JSON values; `pareto_front` is None where none was drawn."""
    rows = []
    for row, report in enumerate(comparison.reports):
        found = {comparison.title(column): comparison.figure(row, column) for column in comparison.columns}
        rows.append(
            {
                "name": comparison.names[row],
                "model": report.name,
                "settings": report.settings,
                "figures": {title: figure.value for title, figure in found.items() if figure is not None},
                "deviations": {
                    title: figure.deviation
                    for title, figure in found.items()
                    if figure is not None and figure.deviation is not None
                },
                "cost": report.cost,
            }
        )
    return {"reports": rows, "notes": list(comparison.notes), "pareto_front": None if front is None else list(front)}
