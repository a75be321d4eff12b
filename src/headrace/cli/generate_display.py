"""What `headrace generate` shows: a bar and errors on standard error, results on standard output."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from headrace.cli.jobs import BadLine, Job
from headrace.cli.production import Tally
from headrace.engine import RoundReport
from headrace.errors import HeadraceError


class GenerateDisplay:
    """A `Watcher`. The bar counts plan rows; jobs not seen yet are taken to have as many as those that were submitted.

    `total` is how many pictures were asked for, None while nobody knows. With `as_json`, standard output gets one JSON
    object a picture and nothing else.
    """

    def __init__(self, total: int | None, as_json: bool) -> None:
        self._total = total
        self._as_json = as_json
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("[bold]{task.fields[pictures]} pictures"),
            BarColumn(),
            TextColumn("{task.completed:.0f} rows, {task.fields[rate]:.1f} rows/s"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("generate", total=None, pictures=self._pictures(0), rate=0.0)
        self._planned_rows = self._planned = self._kept = self._done = self._rows = 0
        self._began = time.perf_counter()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def planned(self, rows: int) -> None:
        """The bar grows."""
        self._planned += 1
        self._planned_rows += rows
        self._show()

    def round(self, report: RoundReport) -> None:
        """The bar fills."""
        self._rows += report.rows
        self._show()

    def picture(self, job: Job, path: Path, settings: dict[str, Any], made: bool) -> None:
        """Counts it; prints its JSON object where asked."""
        self._done += 1
        self._kept += not made
        if self._as_json:
            typer.echo(json.dumps({"file": str(path), "made": made, "line": job.line, **settings}))
        self._show()

    def failure(self, job: Job | BadLine, error: HeadraceError) -> None:
        """One line on standard error."""
        where = f"line {job.line}: " if job.line is not None else ""
        self._console.print(f"[bold red]error:[/] {escape(where + str(error))}")

    def summary(self, tally: Tally, folder: Path) -> None:
        """The closing line."""
        if self._as_json:
            return
        seconds = time.perf_counter() - self._began
        kept = f", {tally.kept} were there already" if tally.kept else ""
        failed = f", {tally.failed} failed" if tally.failed else ""
        rate = f" ({tally.made / seconds:.2f} a second)" if tally.made else ""
        typer.echo(f"{tally.made} made in {seconds:.1f} s{rate}{kept}{failed}, in {folder}")

    def _pictures(self, done: int) -> str:
        return f"{done}/{'?' if self._total is None else self._total}"

    def _show(self) -> None:
        total = None
        if self._total is not None and self._planned:
            total = self._planned_rows * max(1.0, (self._total - self._kept) / self._planned)
        rate = self._rows / max(time.perf_counter() - self._began, 1e-9)
        self._bar.update(self._task, completed=self._rows, total=total, pictures=self._pictures(self._done), rate=rate)
