"""Reports side by side: which figures may stand in one column, and which may not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.errors import DataError
from headrace.evaluation.figures import HIGHER_IS_BETTER, Figure
from headrace.evaluation.report import Report

Column = tuple[str, str | None, str | None]


@dataclass(frozen=True)
class Comparison:
    """A table of reports. A column is one metric of one extractor with one digest; figures never share it otherwise.

    `notes` say what a reader must know before comparing down a column.
    """

    reports: tuple[Report, ...]
    names: tuple[str, ...]
    columns: tuple[Column, ...]
    notes: tuple[str, ...]

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


def compare_reports(reports: Sequence[Report]) -> Comparison:
    """The comparison of at least two reports. Raises `DataError` for fewer."""
    if len(reports) < 2:
        raise DataError(f"{len(reports)} report(s) are given to compare", "Give at least two")
    columns = tuple(dict.fromkeys(_column(figure) for report in reports for figure in report.figures))
    comparison = Comparison(tuple(reports), _names(reports), columns, ())
    return Comparison(comparison.reports, comparison.names, columns, tuple(_notes(comparison)))


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
    """The column that most reports with a throughput have: `metric`, or the first of its kind. Raises `DataError`."""
    timed = [row for row, report in enumerate(comparison.reports) if report.cost.get("images_per_second")]
    counts = {
        column: sum(comparison.figure(row, column) is not None for row in timed)
        for column in comparison.columns
        if metric is None or column[0] == metric
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


def _names(reports: Sequence[Report]) -> tuple[str, ...]:
    """What tells them apart: their names where those differ, and the settings that do."""
    labels = {"solver": "", "steps": "steps", "guidance_scale": "guidance", "dtype": "", "first_seed": "seed"}
    differing = [key for key in labels if len({str(report.settings.get(key)) for report in reports}) > 1]
    several = len({report.name for report in reports}) > 1
    names = []
    for report in reports:
        words = [f"{labels[key]} {report.settings[key]}".strip() for key in differing if key in report.settings]
        names.append(", ".join([report.name, *words] if several or not words else words))
    return tuple(f"{name} #{place}" if names.count(name) > 1 else name for place, name in enumerate(names, start=1))


def _notes(comparison: Comparison) -> list[str]:
    notes = []
    for metric in dict.fromkeys(column[0] for column in comparison.columns):
        extractors = [comparison.title(column) for column in comparison.columns if column[0] == metric]
        if len(extractors) > 1:
            notes.append(
                f"{metric} was measured with different extractors, which do not compare: {len(extractors)} columns"
            )
    for column in comparison.columns:
        found = [figure for row in range(len(comparison.reports)) if (figure := comparison.figure(row, column))]
        counts = {(figure.samples, figure.references) for figure in found}
        if len(counts) > 1:
            text = ", ".join(f"{samples} against {references}" for samples, references in sorted(counts, key=str))
            notes.append(f"{comparison.title(column)}: different numbers of pictures ({text}), so the bias differs")
    for key, what in (("digest", "data sets"),):
        if len({str(report.data.get(key)) for report in comparison.reports if report.data}) > 1:
            notes.append(f"the {what} differ: figures against different pictures do not compare")
    devices = {(report.machine.get("device"), report.machine.get("threads")) for report in comparison.reports}
    if len(devices - {(None, None)}) > 1:
        notes.append("the machines differ, so images per second do not compare")
    return notes
