"""What `headrace compare` shows of a comparison, and its JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
_COSTS = ("images_per_second", "network_rows_a_picture", "macs_a_picture", "peak_memory_bytes")


def show_comparison(comparison: Comparison, front: Sequence[str] | None = None) -> None:
    """A table for each model with a line a report, the best of all bold; `front`: names to be marked with a star."""
    console = Console(highlight=False)
    single = len({column[1:] for column in comparison.columns if column[1] is not None}) == 1
    columns = [
        _settings(comparison, front or ()),
        *_figures(comparison, single),
        *_costs(comparison, all_of_them=console.width >= _WIDE),
    ]
    for model in comparison.models:
        title = f"{model}{_parameters(comparison, model)}"
        title += f" as {comparison.extractors[0]} sees it" if single else ""
        table = Table(title=escape(title), title_justify="left", box=None, padding=(0, 1, 0, 0))
        for column in columns:
            table.add_column(column.heading, justify="left" if column is columns[0] else "right", no_wrap=True)
        for row, report in enumerate(comparison.reports):
            if report.name == model:
                table.add_row(*(column.cells[row] for column in columns))
        console.print(table)
    if front:
        console.print("* on the Pareto front of quality and throughput")
    for note in comparison.notes:
        console.print(f"[yellow]note:[/] {escape(note)}")


@dataclass(frozen=True)
class _Column:
    """A heading and a cell for each report, in rich's markup."""

    heading: str
    cells: Sequence[str]


def _parameters(comparison: Comparison, model: str) -> str:
    """How large a model's denoiser is, where its reports say so."""
    found = [report.cost.get("parameters") for report in comparison.reports if report.name == model]
    return f" ({amount('parameters', found[0])} parameters)" if found and found[0] is not None else ""


def _settings(comparison: Comparison, front: Sequence[str]) -> _Column:
    """What tells a model's reports apart."""
    several = len(comparison.models) > 1
    unique = len(set(comparison.labels)) == len(comparison.labels)
    labels = comparison.labels if several or unique else comparison.names
    stars = ["* " if name in front else "" for name in comparison.names]
    return _Column("setting", [f"{star}{escape(label)}" for star, label in zip(stars, labels, strict=True)])


def _figures(comparison: Comparison, single: bool) -> Iterator[_Column]:
    """The figures; `single`: they are of one extractor, which the title names."""
    for column in comparison.columns:
        higher = higher_is_better(column)
        heading = column[0] if single else comparison.title(column)
        heading = heading.replace("_", "\n").replace(" [", "\n[")
        figures = [comparison.figure(row, column) for row in range(len(comparison.reports))]
        values = [figure.value for figure in figures if figure is not None]
        best = max(values) if higher else min(values)
        texts = ["" if figure is None else f"{figure.value:.3g}" for figure in figures]
        cells = [
            f"[bold]{text}[/]" if figure is not None and figure.value == best else text
            for text, figure in zip(texts, figures, strict=True)
        ]
        yield _Column(escape(f"{'↑' if higher else '↓'}{heading}"), cells)


def _costs(comparison: Comparison, all_of_them: bool) -> Iterator[_Column]:
    """What reports cost."""
    for key in _COSTS:
        if key in _SPARED and not all_of_them:
            continue
        costs = [report.cost.get(key) for report in comparison.reports]
        if any(cost is not None for cost in costs):
            cells = ["" if cost is None else amount(key, cost) for cost in costs]
            yield _Column(_SHORT.get(key, COST_NAMES[key]), cells)


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
