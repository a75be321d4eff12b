"""Reports side by side: which figures may stand in one column, and which may not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from headrace.errors import DataError
from headrace.evaluation.figures import HIGHER_IS_BETTER, Figure
from headrace.evaluation.report import Report

Column = tuple[str, str | None, str | None]
# Settings that a report can be told by, and how they are said.
_TOLD_BY = {
    "solver": "{}", "steps": "{} steps", "guidance_scale": "guidance {}", "dtype": "{}", "height": "height {}",
    "width": "width {}", "slots": "{} slots", "first_seed": "seed {}", "samples": "{} samples",
}  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """A table of reports. A column is one metric of one extractor with one digest; figures never share it otherwise.

    Attributes:
        reports: in the order given.
        names: of each report, all different: the model where there are several, and the settings that differ.
        labels: the same without the model: for points whose colour tells the model.
        columns: what figures there are.
        notes: what a reader must know before comparing down a column.
    """

    reports: tuple[Report, ...]
    names: tuple[str, ...]
    labels: tuple[str, ...]
    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()

    def figure(self, row: int, column: Column) -> Figure | None:
        """The figure of a report in a column, if it has one."""
        return next((one for one in self.reports[row].figures if _column(one) == column), None)

    def title(self, column: Column) -> str:
        """The metric, and its extractor; the digest as well where two extractors have one name."""
        metric, extractor, digest = column
        if extractor is None:
            return metric
        same_name = {other[2] for other in self.columns if other[1] == extractor}
        return f"{metric} [{extractor}{f' {str(digest)[:8]}' if len(same_name) > 1 else ''}]"

    @property
    def extractors(self) -> tuple[str, ...]:
        """Names of the extractors that figures were measured with, each once."""
        return tuple(dict.fromkeys(column[1] for column in self.columns if column[1] is not None))

    @property
    def models(self) -> tuple[str, ...]:
        """Names of what was evaluated, each once."""
        return tuple(dict.fromkeys(report.name for report in self.reports))


def compare_reports(reports: Sequence[Report]) -> Comparison:
    """The comparison of at least two reports. Raises `DataError` for fewer."""
    if len(reports) < 2:
        raise DataError(f"{len(reports)} report(s) are given to compare", "Give at least two")
    columns = tuple(dict.fromkeys(_column(figure) for report in reports for figure in report.figures))
    names, labels = _names(reports)
    comparison = Comparison(tuple(reports), names, labels, columns)
    return replace(comparison, notes=tuple(_notes(comparison)))


def best_trades(comparison: Comparison, column: Column) -> list[str]:
    """Names of the reports on the Pareto front of a column and images per second, slowest first."""
    rows, points = [], []
    for row, report in enumerate(comparison.reports):
        figure, speed = comparison.figure(row, column), report.cost.get("images_per_second")
        if figure is not None and speed:
            rows.append(row)
            points.append((speed, figure.value))
    return [comparison.names[rows[index]] for index in pareto(points, higher_is_better(column))]


def pareto(points: Sequence[tuple[float, float]], higher_is_better: bool) -> list[int]:
    """Indices of the (throughput, quality) points that no other one equals or beats in both, by rising throughput.

    Of equal points the first is kept.
    """
    sign = 1.0 if higher_is_better else -1.0
    order = sorted(range(len(points)), key=lambda index: (-points[index][0], -sign * points[index][1], index))
    front, best = [], float("-inf")
    for index in order:
        quality = sign * points[index][1]
        if quality > best:
            front.append(index)
            best = quality
    return front[::-1]


def plotted_column(comparison: Comparison, metric: str | None = None) -> Column:
    """The column that most reports with a throughput have. Raises `DataError` where there is none.

    `metric`: of this name, which may say the extractor too, as `Comparison.title` does; None: the first of all.
    """
    timed = [row for row, report in enumerate(comparison.reports) if report.cost.get("images_per_second")]
    counts = {
        column: sum(comparison.figure(row, column) is not None for row in timed)
        for column in comparison.columns
        if metric in (None, column[0], comparison.title(column))
    }
    if not any(counts.values()):
        have = ", ".join(sorted({column[0] for column in comparison.columns})) or "none"
        what = "a figure" if metric is None else repr(metric)
        raise DataError(
            f"no report has both {what} and images per second", f"Evaluate models, not folders; figures here: {have}"
        )
    return max(counts, key=lambda column: counts[column])


def higher_is_better(column: Column) -> bool:
    """Whether more of this figure is better."""
    return column[0] in HIGHER_IS_BETTER


def _column(figure: Figure) -> Column:
    return figure.metric, figure.extractor, figure.digest


def _names(reports: Sequence[Report]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and labels of a `Comparison`; reports that nothing tells apart are numbered."""
    differing = [key for key in _TOLD_BY if len({str(report.settings.get(key)) for report in reports}) > 1]
    labels = [_label(report, differing) for report in reports]
    several = len({report.name for report in reports}) > 1
    names = [
        ", ".join(filter(None, [report.name if several or not label else "", label]))
        for report, label in zip(reports, labels, strict=True)
    ]
    numbered = [f"{name} #{place}" if names.count(name) > 1 else name for place, name in enumerate(names, start=1)]
    return tuple(numbered), tuple(label or report.name for report, label in zip(reports, labels, strict=True))


def _label(report: Report, differing: Sequence[str]) -> str:
    """`ddim 50, guidance 4`: the settings that differ, solver and steps together."""
    told = [_TOLD_BY[key].format(report.settings[key]) for key in differing if key in report.settings]
    if {"solver", "steps"} <= set(differing) and {"solver", "steps"} <= set(report.settings):
        told[:2] = [f"{report.settings['solver']} {report.settings['steps']}"]
    return ", ".join(told)


def _notes(comparison: Comparison) -> list[str]:
    reports, notes = comparison.reports, []
    for metric in dict.fromkeys(column[0] for column in comparison.columns):
        extractors = [column for column in comparison.columns if column[0] == metric]
        if len(extractors) > 1:
            notes.append(
                f"{metric} was measured with different extractors, which do not compare: {len(extractors)} columns"
            )
    for column in comparison.columns:
        found = [figure for row in range(len(reports)) if (figure := comparison.figure(row, column))]
        counts = {(figure.samples, figure.references) for figure in found}
        if len(counts) > 1:
            text = ", ".join(f"{samples} against {references}" for samples, references in sorted(counts, key=str))
            notes.append(f"{comparison.title(column)}: different numbers of pictures ({text}), so the bias differs")
    if _differ([report for report in reports if report.data], lambda report: report.data.get("digest")):
        notes.append("the data sets differ: figures against different pictures do not compare")
    timed = [report for report in reports if report.cost.get("images_per_second")]
    for key, what in (("device", "devices"), ("processor", "processors"), ("threads", "numbers of threads")):
        values = list(dict.fromkeys(str(report.machine.get(key)) for report in timed))
        if len(values) > 1:
            notes.append(
                f"the machines differ, so images per second do not compare: {what} {', '.join(sorted(values))}"
            )
            break
    if _differ(timed, lambda report: report.settings.get("slots")):
        notes.append("the numbers of slots differ: images per second follow them as well as the settings")
    failed = [name for name, report in zip(comparison.names, reports, strict=True) if report.settings.get("failed")]
    if failed:
        notes.append(f"pictures failed and are left out of: {', '.join(failed)}")
    return notes


def _differ(reports: Sequence[Report], value: Callable[[Report], object]) -> bool:
    return len({str(value(report)) for report in reports}) > 1
