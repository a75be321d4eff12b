"""What `headrace evaluate` shows: bars on standard error, tables on standard output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeftColumn
from rich.table import Table
from rich.text import Text

from headrace.evaluation.figures import HIGHER_IS_BETTER, Figure
from headrace.evaluation.report import Report
from headrace.evaluation.self_check import SelfCheck

COST_NAMES = {
    "images_per_second": "images/s",
    "parameters": "parameters (denoiser)",
    "parameters_total": "parameters (all networks)",
    "macs_a_row": "MACs a row",
    "network_rows_a_picture": "network rows a picture",
    "macs_a_picture": "MACs a picture",
    "peak_memory_bytes": "peak memory",
}


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Pictures a second."""
        return Text(f"{task.speed or 0.0:.1f}/s")


@contextmanager
def extraction_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Yields `watch(what, done, total)`: a bar for each thing that is done. Silent where nobody looks."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn(), _RateColumn(), TimeLeftColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def watch(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done)

        yield watch


def show(report: Report, console: Console) -> None:
    """The report as tables, then its warnings."""
    if report.figures:
        console.print(_figures(report.name, report.figures))
    for extractor in dict.fromkeys(check.figures[0].extractor for check in report.self_checks):
        mine = [check for check in report.self_checks if check.figures[0].extractor == extractor]
        console.print(_self_checks(f"{report.data.get('path', 'data set')} as {extractor} sees it", mine))
        for check in mine:
            console.print(f"  {check.against}: {escape(check.expected)}")
    if report.cost:
        table = Table("cost", "", title_justify="left")
        for key, name in COST_NAMES.items():
            if key in report.cost:
                table.add_row(name, amount(key, report.cost[key]))
        console.print(table)
    for text in report.warnings:
        console.print(f"[yellow]warning:[/] {escape(text)}")
    if report.skipped_count:
        console.print(f"[yellow]skipped:[/] {report.skipped_count} picture(s) that could not be read")
        for text in report.skipped:
            console.print(f"  {escape(text)}")


def _figures(title: str, figures: Sequence[Figure]) -> Table:
    table = Table(title=escape(title), title_justify="left", title_style="bold")
    table.add_column("figure", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("extractor", no_wrap=True)
    table.add_column("pictures")
    for figure in figures:
        better = "↑" if figure.metric in HIGHER_IS_BETTER else "↓"
        against = f" : {figure.references}" if figure.references is not None else ""
        table.add_row(
            f"{better} {figure.metric}", number(figure), figure.extractor or "pixels", f"{figure.samples}{against}"
        )
    return table


def _self_checks(title: str, checks: Sequence[SelfCheck]) -> Table:
    """A line for each check, its figures beside each other, and what came of it."""
    metrics = [figure.metric for figure in checks[0].figures]
    shown = [metric for metric in metrics if not metric.startswith(("spatial", "sfid", "class", "inception"))]
    # No wider than a terminal of 80 columns; deviations are in the report.
    table = Table(title=escape(title), title_justify="left", title_style="bold", box=None)
    table.padding = (0, 1, 0, 0)
    table.add_column("against", no_wrap=True)
    table.add_column("pictures", no_wrap=True)
    for metric in shown:
        table.add_column(metric.replace("_", "\n"), justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for check in checks:
        values = {figure.metric: f"{figure.value:z.3f}" for figure in check.figures}
        table.add_row(
            check.against,
            f"{check.figures[0].samples} : {check.figures[0].references}",
            *(values.get(metric, "") for metric in shown),
            "[green]as expected[/]" if check.passed else "[bold red]NOT as expected[/]",
        )
    return table


def number(figure: Figure) -> str:
    """A figure's value, with its deviation where it has one."""
    deviation = "" if figure.deviation is None else f" ± {figure.deviation:.2g}"
    return f"{figure.value:.4g}{deviation}"


def amount(key: str, value: float) -> str:
    """A cost in words, with its unit."""
    if key.endswith("bytes"):
        return f"{value / 2**20:,.0f} MiB"
    if key == "images_per_second":
        return f"{value:.2f}"
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= factor:
            return f"{value / factor:.2f} {unit}"
    return f"{value:,.0f}"
