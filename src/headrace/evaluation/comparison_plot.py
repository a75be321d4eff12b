"""Quality against throughput, with the Pareto front."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, StrMethodFormatter

from headrace.evaluation.comparison import Column, Comparison, best_trades, higher_is_better
from headrace.files import write_file

_MARKERS = "osD^vP*X"
_LOGARITHMIC_FROM = 5.0  # times the smallest: points that far apart crowd at one end of a linear axis


class _Point(NamedTuple):
    """A report's place in the plot."""

    row: int
    speed: float
    value: float
    deviation: float | None


def plot(comparison: Comparison, column: Column, path: Path) -> list[str]:
    """Draws the reports that have the column's figure and a throughput; returns the names on the front, slowest first.

    Each model has its colour and marker; points are labelled with what else differs. Raises `OutputError`.
    """
    points = _points(comparison, column)
    front = best_trades(comparison, column)
    canvas = Canvas(figsize=(9, 6), dpi=120, layout="constrained")
    axes = canvas.add_subplot()
    _set_scales(axes, points)
    line = sorted((point for point in points if comparison.names[point.row] in front), key=lambda point: point.speed)
    axes.plot(
        [point.speed for point in line], [point.value for point in line],
        color="0.35", linewidth=1.2, linestyle="--", zorder=1, label="Pareto front",
    )  # fmt: skip
    _draw_models(axes, comparison, points)
    _label(axes, comparison, points)
    direction = "higher is better" if higher_is_better(column) else "lower is better"
    axes.set_ylabel(f"{comparison.title(column)} ({direction})")
    axes.set_xlabel("images per second (higher is better)")
    axes.set_title("Quality against throughput: " + ", ".join(dict.fromkeys(_model(comparison, p) for p in points)))
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    write_file(path, lambda temporary: canvas.savefig(temporary, format=path.suffix.lstrip(".").lower() or "png"))
    return front


def _points(comparison: Comparison, column: Column) -> list[_Point]:
    points = []
    for row, report in enumerate(comparison.reports):
        figure, speed = comparison.figure(row, column), report.cost.get("images_per_second")
        if figure is not None and speed:
            points.append(_Point(row, speed, figure.value, figure.deviation))
    return points


def _model(comparison: Comparison, point: _Point) -> str:
    return comparison.reports[point.row].name


def _set_scales(axes: Axes, points: list[_Point]) -> None:
    """Logarithmic where values lie far apart, with plain numbers at the ticks."""
    for axis, values in ((axes.xaxis, [p.speed for p in points]), (axes.yaxis, [p.value for p in points])):
        if min(values) > 0 and max(values) > _LOGARITHMIC_FROM * min(values):
            (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(FuncFormatter(_minor_tick))
    axes.margins(x=0.15, y=0.15)


def _minor_tick(value: float, position: int | None) -> str:
    """2 and 5 of each decade are named; more would run into each other."""
    return f"{value:g}" if f"{value:e}"[0] in "25" else ""


def _draw_models(axes: Axes, comparison: Comparison, points: list[_Point]) -> None:
    colours = matplotlib.color_sequences["tab10"]
    for number, model in enumerate(dict.fromkeys(_model(comparison, point) for point in points)):
        mine = [point for point in points if _model(comparison, point) == model]
        axes.errorbar(
            [point.speed for point in mine], [point.value for point in mine],
            yerr=[point.deviation or 0.0 for point in mine],
            fmt=_MARKERS[number % len(_MARKERS)], color=colours[number % len(colours)], markersize=7,
            elinewidth=1, zorder=2, label=model,
        )  # fmt: skip


def _label(axes: Axes, comparison: Comparison, points: list[_Point]) -> None:
    """Beside each point what tells it from the model's others, on the side where there is more room."""
    middle = axes.transAxes.transform((0.5, 0.5))[0]
    for point in points:
        left = axes.transData.transform((point.speed, point.value))[0] <= middle
        axes.annotate(
            comparison.labels[point.row], (point.speed, point.value), xytext=(8 if left else -8, 6),
            textcoords="offset points", ha="left" if left else "right", fontsize=8,
        )  # fmt: skip
