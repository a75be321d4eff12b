"""The log of a phase: a CSV file that a resumed run continues."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

from headrace.files import write_file


class TrainingLog:
    """Rows of figures by step. A row may lack columns; the file's header is the union, in order of appearance.

    Of a file that is there, what came after `step` is forgotten: it is about to be done again.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        if step and path.exists():
            with path.open(encoding="utf-8", newline="") as file:
                rows = [{key: float(text) for key, text in row.items() if text} for row in csv.DictReader(file)]
            self.rows = [row for row in rows if row["step"] <= step]

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
