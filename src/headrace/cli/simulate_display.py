"""What `headrace simulate` shows: a bar on standard error, a table on standard output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from headrace.serving.load_study import Run


@contextmanager
def progress(requests: int) -> Iterator[Callable[[str, int], None]]:
    """Yields `advance(policy, requests)`; silent where nobody looks."""
    console = Console(stderr=True)
    columns = (
        TextColumn("[bold]{task.description:12}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} requests"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("simulate", total=requests)
        yield lambda policy, done: bar.update(task, advance=done, description=policy)


def run_table(runs: Sequence[Run], capacity: float | None) -> None:
    """A line a policy, grouped by load."""
    deadlines = any(one.report.deadline_attainment is not None for one in runs)
    quality = any(one.report.similarity is not None for one in runs)
    table = Table(box=None, pad_edge=False)
    for name in ("load", "policy"):
        table.add_column(name, no_wrap=True)
    headers = ["img/s", "mean s", "P50 s", "P99 s", "queue", "UNet kept"]
    headers += ["in time"] * deadlines + ["skipped", "similarity"] * quality
    for name in headers:
        table.add_column(name, justify="right", no_wrap=True)
    for index, one in enumerate(runs):
        first = index == 0 or runs[index - 1].workload is not one.workload
        if first and index:
            table.add_row()
        table.add_row(one.workload.name if first else "", one.policy, *_cells(one, deadlines, quality))
    console = Console()
    # Squeezed into the window, a table would lose digits; lines that wrap, or scroll in a pager, lose nothing.
    needed = Measurement.get(console, console.options.update(max_width=1000), table).maximum
    Console(width=max(console.width, needed)).print(table)
    if capacity is not None:
        typer.echo(f"capacity: {capacity:.3g} images a second, what continuous serves when requests never lack")


def _cells(one: Run, deadlines: bool, quality: bool) -> list[str]:
    report = one.report
    kept = "" if one.effort is None else f"{one.effort.unet_kept:.0%}"
    cells = [
        f"{report.throughput:.3g}", f"{report.mean_latency_s:.2f}", f"{report.p50_latency_s:.2f}",
        f"{report.p99_latency_s:.2f}", f"{report.mean_queue:.1f}", kept,
    ]  # fmt: skip
    if deadlines:
        cells.append("" if report.deadline_attainment is None else f"{report.deadline_attainment:.1%}")
    if quality:
        similarity = "" if report.similarity is None else f"{report.similarity:.3f}"
        cells += [f"{report.skipped_share:.1%}", similarity]
    return cells
