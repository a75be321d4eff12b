"""What `headrace tune` shows: a bar, or a line a trial, on standard error; tables on standard output."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from headrace.tuning.acceleration import AccelerationArtefact, Expectation
from headrace.tuning.search import Budget
from headrace.tuning.trial import Trial
from headrace.tuning.tune import Found


class TuneDisplay:
    """Follows a search: a bar of pictures with their rate and the time left, or plain lines where there is no terminal.

    A context; `advance` is told of pictures that are made, `trial` of trials.
    """

    def __init__(self, budget: Budget) -> None:
        self._console = Console(stderr=True, highlight=False)
        columns = (
            TextColumn("[bold]rung {task.fields[rung]}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} pictures, {task.fields[rate]:.2f}/s"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task = self._progress.add_task("tune", total=budget.pictures, rung=1, rate=0.0)
        self._rungs = len(budget.rungs)
        self._began = time.perf_counter()
        self._done = self._made = 0
        self._rung = 1

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Takes the bar away; nothing is shown from here on."""
        self._progress.stop()

    def advance(self, pictures: int) -> None:
        """Pictures were made."""
        self._made += pictures
        self._done += pictures
        self._update()

    def trial(self, trial: Trial, rung: int, fresh: bool) -> None:
        """A trial came to an end, or was found in the state of an earlier run."""
        self._done += 0 if fresh else trial.pictures
        self._rung = rung + 1
        self._update()
        if self._console.is_terminal:
            return
        if trial.outcome is None:
            told = f"cannot be measured: {trial.fault}"
        else:
            told = f"{trial.outcome.speedup.value:.2f}x, quality {trial.outcome.quality.value:.3f}"
        kept = "" if fresh else " (measured before)"
        typer.echo(
            f"rung {rung + 1}/{self._rungs}, {trial.pictures} pictures: {trial.settings.label}: {told}{kept}", err=True
        )

    def _update(self) -> None:
        rate = self._made / max(time.perf_counter() - self._began, 1e-9)
        self._progress.update(self._task, completed=self._done, rate=rate, rung=self._rung)


def show_front(found: Found, metric: str) -> None:
    """A line for each of the best trades, the slowest first."""
    table = Table(title=f"the best trades of speed and {escape(metric)}", title_justify="left", box=None)
    table.add_column("settings", overflow="fold")
    for name in ("speed-up", "95%", "quality", "95%", "MACs"):
        table.add_column(name, justify="right", no_wrap=True)
    for trial in found.front:
        speedup, quality, share = trial.found.speedup, trial.found.quality, found.macs_share(trial.settings)
        table.add_row(
            escape(trial.settings.label), f"{speedup.value:.2f}", f"{speedup.low:.2f} to {speedup.high:.2f}",
            f"{quality.value:.3f}", f"{quality.low:.3f} to {quality.high:.3f}", "" if share is None else f"{share:.1%}",
        )  # fmt: skip
    Console().print(table)
    pictures = found.front[0].pictures
    typer.echo(f"plain sampling: quality {found.plain.quality}; each on {pictures} prompts")


def show_confirmation(artefact: AccelerationArtefact, folder: Path) -> None:
    """The chosen settings: what the search expects, and what other prompts gave."""
    typer.echo(f"chosen: {artefact.settings.label}")
    for name, one in (("expected", artefact.expected), ("confirmed", artefact.confirmed)):
        where = "of the search" if name == "expected" else "that the search did not see"
        typer.echo(f"{name} on {one.pictures} prompts {where}:")
        typer.echo(f"  {one.speedup} times as fast, quality {one.quality}{_against(one)}")
    typer.echo(f"written: acceleration.json, front.json and front.png in {folder}")


def front_rows(found: Found) -> list[dict[str, Any]]:
    """The front as JSON values."""
    return [
        {
            "settings": trial.settings.model_dump(), "label": trial.settings.label, "pictures": trial.pictures,
            "speedup": trial.found.speedup.model_dump(), "quality": trial.found.quality.model_dump(),
            "macs_share": found.macs_share(trial.settings), **trial.found.figures,
        }
        for trial in found.front
    ]  # fmt: skip


def summary(artefact: AccelerationArtefact, folder: Path) -> dict[str, Any]:
    """What scripts want to know of a tuning."""
    return {
        "acceleration": str(folder / "acceleration.json"),
        "model": artefact.model,
        "settings": artefact.settings.model_dump(),
        "label": artefact.settings.label,
        "metric": artefact.metric,
        "plain_quality": artefact.plain_quality.model_dump(),
        "expected": artefact.expected.model_dump(),
        "confirmed": artefact.confirmed.model_dump(),
        "front": len(artefact.front),
    }


def _against(expectation: Expectation) -> str:
    values = [expectation.figures.get(f"against_plain{end}") for end in ("", "_low", "_high")]
    if any(value is None for value in values):
        return ""
    middle, low, high = values
    return f", {middle:+.3f} ({low:+.3f} to {high:+.3f}) against plain"
