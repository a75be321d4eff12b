"""Quality against throughput, with the Pareto front."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure as Canvas

from headrace.evaluation.comparison import Column, Comparison, higher_is_better, pareto
from headrace.files import write_file


def plot(comparison: Comparison, column: Column, path: Path) -> list[str]:
    """Draws the reports that have the column's figure and a throughput; returns the names on the front, slowest first.

    Raises `OutputError`.
    """
    chosen = []
    for row, report in enumerate(comparison.reports):
        figure, speed = comparison.figure(row, column), report.cost.get("images_per_second")
        if figure is not None and speed:
            chosen.append((row, speed, figure))
    points = [(speed, figure.value) for _, speed, figure in chosen]
    front = pareto(points, higher_is_better(column))
    canvas = Canvas(figsize=(8, 5.5), dpi=120, layout="constrained")
    axes = canvas.add_subplot()
    axes.plot(*zip(*(points[index] for index in front), strict=True), color="tab:blue", zorder=1, label="Pareto front")
    middle = (min(speed for speed, _ in points) + max(speed for speed, _ in points)) / 2
    for index, (row, speed, figure) in enumerate(chosen):
        on_front = index in front
        axes.errorbar(
            speed, figure.value, yerr=figure.deviation, fmt="o", zorder=2, capsize=2,
            color="tab:blue" if on_front else "tab:grey", markersize=8 if on_front else 6,
        )  # fmt: skip
        left = speed <= middle
        axes.annotate(
            comparison.names[row], (speed, figure.value), xytext=(8 if left else -8, 8), textcoords="offset points",
            ha="left" if left else "right", fontsize=9,
        )  # fmt: skip
    speeds = [speed for speed, _ in points]
    if max(speeds) > 10 * min(speeds):
        axes.set_xscale("log")
    axes.margins(x=0.2, y=0.15)
    direction = "higher is better" if higher_is_better(column) else "lower is better"
    axes.set_ylabel(f"{comparison.title(column)} ({direction})")
    axes.set_title(", ".join(dict.fromkeys(comparison.reports[row].name for row, _, _ in chosen)))
    axes.set_xlabel("images per second (higher is better)")
    axes.grid(alpha=0.3)
    axes.legend()
    write_file(path, lambda temporary: canvas.savefig(temporary, format=path.suffix.lstrip(".").lower() or "png"))
    return [comparison.names[chosen[index][0]] for index in front]
