"""The log of a phase: a CSV file that a resumed run continues, and its curve as a PNG."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from headrace.files import write_file


class TrainingLog:
    """Rows of figures by step. A row may lack columns; the file's header is the union, in order of appearance."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        if path.exists():
            with path.open(encoding="utf-8", newline="") as file:
                self.rows = [{key: float(text) for key, text in row.items() if text} for row in csv.DictReader(file)]

    def cut(self, step: int) -> None:
        """Forget what came after `step`: it is about to be done again."""
        self.rows = [row for row in self.rows if row["step"] <= step]

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Add figures at a step (joined with a row of the same step)."""
        if self.rows and self.rows[-1]["step"] == step:
            self.rows[-1].update(figures)
        else:
            self.rows.append({"step": float(step), **figures})

    def save(self) -> None:
        """Write the CSV file, by rename."""
        columns = list(dict.fromkeys(key for row in self.rows for key in row))

        def write(path: Path) -> None:
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows({key: f"{value:.8g}" for key, value in row.items()} for row in self.rows)

        write_file(self.path, write)

    def series(self, name: str) -> tuple[list[float], list[float]]:
        """Steps and values of one column."""
        rows = [row for row in self.rows if name in row and math.isfinite(row[name])]
        return [row["step"] for row in rows], [row[name] for row in rows]

    def plot(self, path: Path, title: str, scores: tuple[str, ...]) -> None:
        """Draw the loss (and the scores, on an axis of their own) over steps."""
        figure = Figure(figsize=(7, 4), layout="constrained")
        axis = figure.add_subplot()
        steps, losses = self.series("loss")
        axis.plot(steps, losses, color="tab:blue", linewidth=0.7, alpha=0.35)
        axis.plot(steps, _smooth(losses), color="tab:blue", label="loss")
        if losses and min(losses) > 0:
            axis.set_yscale("log")
        axis.set(title=title, xlabel="step", ylabel="loss")
        axis.grid(alpha=0.3)
        for name in scores:
            other = axis.twinx()
            other.plot(*self.series(name), color="tab:orange", marker=".", label=name)
            other.set_ylabel(name)
        write_file(path, lambda temporary: figure.savefig(temporary, dpi=110))


def _smooth(values: list[float], weight: float = 0.95) -> list[float]:
    """Exponential average, corrected for its start."""
    smooth, average = [], 0.0
    for number, value in enumerate(values, start=1):
        average = weight * average + (1 - weight) * value
        smooth.append(average / (1 - weight**number))
    return smooth
