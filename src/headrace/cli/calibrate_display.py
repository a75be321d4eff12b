"""What `headrace calibrate` shows: a bar on standard error, then a table of the schedule's blocks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from headrace.cli.block_label import block_label
from headrace.techniques.block_caching.artefact import BlockCacheArtefact


@contextmanager
def calibration_bar(total: int, unit: str = "rows") -> Iterator[Callable[[int], None]]:
    """Yields `advance(more)`: what is done, its rate and the time left; silent where nobody looks."""
    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("[bold]measuring"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}, {task.fields[rate]:.1f}/s"),
        TimeRemainingColumn(),
    )
    began, done = time.perf_counter(), 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("measuring", total=total, rate=0.0, unit=unit)

        def advance(more: int) -> None:
            nonlocal done
            done += more
            progress.update(task, completed=done, rate=done / max(time.perf_counter() - began, 1e-9))

        yield advance


def show(artefact: BlockCacheArtefact, folder: Path, as_json: bool) -> None:
    """A line for each cached block and what the schedule comes to; or one JSON object."""
    if as_json:
        typer.echo(json.dumps(summary(artefact, folder)))
        return
    schedule, profile = artefact.schedule, artefact.profile
    shares, change = profile.work.share(schedule.blocks), profile.change(schedule.blocks)
    table = Table(box=None, pad_edge=False)
    for name in ("block", "evaluated", "share of MACs", "mean change", "largest", "longest reuse"):
        table.add_column(name, justify="left" if name == "block" else "right")
    for index, block in enumerate(schedule.blocks):
        computed = schedule.compute[:, index]
        table.add_row(
            block_label(block), f"{computed.sum()}/{len(computed)}", f"{shares[index]:.1%}",
            f"{change[:, index].mean():.3f}", f"{change[:, index].max():.3f}", f"{_longest(computed)} rows",
        )  # fmt: skip
    Console().print(table)
    typer.echo(
        f"{'delta' if artefact.criterion == 'change' else artefact.criterion} {artefact.delta:.4g}: "
        f"{artefact.saving:.1%} of the network's work is left out, "
        f"at most {artefact.figures['speedup_bound']:.2f} times as fast; measured on {artefact.images} images"
    )
    typer.echo(f"written: schedule.json, lifetimes.png, profile.csv and profile.png in {folder}")


def summary(artefact: BlockCacheArtefact, folder: Path) -> dict[str, object]:
    """What scripts want to know of a schedule."""
    return {
        "schedule": str(folder / "schedule.json"),
        "model": artefact.model,
        "solver": artefact.solver_name or artefact.solver.split()[0],
        "steps": artefact.steps,
        "blocks": len(artefact.blocks),
        "images": artefact.images,
        "criterion": artefact.criterion,
        "delta": artefact.delta,
        "saving": artefact.saving,
        **artefact.figures,
    }


def _longest(computed: np.ndarray) -> int:
    """Rows of the longest run that reuses one value."""
    starts = np.append(np.flatnonzero(computed), len(computed))
    return int(np.diff(starts).max()) - 1
