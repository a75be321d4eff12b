"""Quality against operations and against latency, as in the paper's Figure 2: a shape for every number of steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from headrace.benchmarks._step_study.families import PLAIN
from headrace.benchmarks._step_study.quality import PSNR, Measure
from headrace.benchmarks._step_study.study import CostName, Point, Study
from headrace.files import write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHAPES = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h", "p")
_COLOURS = ("#333333", "#2a6f97", "#6a994e", "#e09f3e", "#d00000", "#9d4edd", "#61a5c2", "#b56576")
_LABELS: dict[CostName, str] = {"macs": "GMAC a picture", "seconds": "ms a picture"}
_UNITS: dict[CostName, float] = {"macs": 1e-9, "seconds": 1e3}
_DPI = 150


def draw(study: Study, title: str, path: Path) -> None:
    """A row of panels for every measure: against operations, against latency. Raises `OutputError`."""
    costs: tuple[CostName, ...] = ("macs", "seconds")
    figure = Figure(figsize=(11, 1.0 + 3.6 * len(study.measures)), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(len(study.measures), len(costs), squeeze=False)
    families = list(dict.fromkeys(point.family for point in study.points))
    steps = sorted({point.settings.steps for point in study.points})
    for measure, row in zip(study.measures, panels, strict=True):
        for cost, axes in zip(costs, row, strict=True):
            _panel(axes, study, measure, cost, families, steps)
    panels[0][-1].legend(
        handles=_keys(families, steps), fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0)
    )
    write_file(path, lambda target: figure.savefig(target, dpi=_DPI))


def _panel(
    axes: Axes, study: Study, measure: Measure, cost: CostName, families: Sequence[str], steps: Sequence[int]
) -> None:
    for place, family in enumerate(families):
        points = [point for point in study.points if point.family == family and _shown(point, measure, steps)]
        points = sorted(points, key=lambda point: point.cost(cost))
        costs = [_UNITS[cost] * point.cost(cost) for point in points]
        values = [point.scores.figures[measure.name] for point in points]
        colour = _COLOURS[place % len(_COLOURS)]
        axes.plot(costs, values, "-", color=colour, linewidth=1.0, alpha=0.6)
        for point, one, value in zip(points, costs, values, strict=True):
            axes.plot(one, value, _shape(point.settings.steps, steps), color=colour, markersize=6)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="both", labelsize=8)
    axes.set_xlabel(_LABELS[cost])
    axes.set_ylabel(measure.label)
    if not measure.higher:
        axes.invert_yaxis()  # better is up in every panel
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _shown(point: Point, measure: Measure, steps: Sequence[int]) -> bool:
    """The pictures that others are compared with are no point of that comparison."""
    return measure != PSNR or point.family != PLAIN.name or point.settings.steps != steps[-1]


def _shape(count: int, steps: Sequence[int]) -> str:
    return _SHAPES[steps.index(count) % len(_SHAPES)]


def _keys(families: Sequence[str], steps: Sequence[int]) -> list[Line2D]:
    colours = [
        Line2D([], [], color=_COLOURS[place % len(_COLOURS)], label=family) for place, family in enumerate(families)
    ]
    shapes = [
        Line2D([], [], color="#777777", linestyle="", marker=_shape(count, steps), label=f"{count} steps")
        for count in steps
    ]
    return colours + shapes
