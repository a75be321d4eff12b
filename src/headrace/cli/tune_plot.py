"""The picture of a tuning: quality against speed, the front, what was chosen and what other prompts confirmed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from headrace.files import write_file
from headrace.tuning.acceleration import AccelerationArtefact
from headrace.tuning.interval import Interval
from headrace.tuning.tune import Found

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_front(found: Found, metric: str, path: Path, chosen: AccelerationArtefact | None = None) -> None:
    """Writes the plot as PNG, by rename. Raises `OutputError`."""
    canvas = Figure(figsize=(10, 6), dpi=120, layout="constrained")
    axes = canvas.add_subplot()
    others = [trial.found for trial in found.trials if trial not in found.front]
    axes.scatter(
        [one.speedup.value for one in others], [one.quality.value for one in others], color="0.7", s=18,
        label="other settings of the last rung",
    )  # fmt: skip
    speeds = [trial.found.speedup.value for trial in found.front]
    axes.plot(speeds, [trial.found.quality.value for trial in found.front], "--", color="0.35", linewidth=1.2, zorder=1)
    for number, trial in enumerate(found.front):
        label = "Pareto front, 95% intervals" if number == 0 else None
        _point(axes, trial.found.speedup, trial.found.quality, "o", "tab:blue", label)
    _number(axes, found)
    _point(axes, Interval.exact(1.0), found.plain.quality, "*", "black", "plain sampling")
    if chosen is not None:
        _point(axes, chosen.expected.speedup, chosen.expected.quality, "D", "tab:orange", "chosen")
        if "against_plain" in chosen.confirmed.figures:
            plain = chosen.confirmed.quality.value - chosen.confirmed.figures["against_plain"]
            label = f"plain, on the {chosen.confirmed.pictures} others"
            axes.plot([1.0], [plain], "*", color="tab:green", markersize=9, label=label)
        _point(
            axes, chosen.confirmed.speedup, chosen.confirmed.quality, "s", "tab:green",
            f"chosen, on {chosen.confirmed.pictures} other prompts",
        )  # fmt: skip
    axes.set_xlabel("times as fast as plain sampling")
    axes.set_ylabel(f"{metric} (higher is better)")
    axes.margins(x=0.12, y=0.12)
    axes.grid(alpha=0.3)
    canvas.legend(loc="outside lower center", ncols=3, fontsize=8)
    write_file(path, lambda temporary: canvas.savefig(temporary, format="png"))


def _point(axes: Axes, x: Interval, y: Interval, marker: str, colour: str, label: str | None) -> None:
    axes.errorbar(
        [x.value], [y.value],
        xerr=[[x.value - x.low], [x.high - x.value]], yerr=[[y.value - y.low], [y.high - y.value]],
        fmt=marker, color=colour, markersize=8, elinewidth=1, capsize=2, label=label,
    )  # fmt: skip


def _number(axes: Axes, found: Found) -> None:
    """A number at each point of the front, and the settings behind the numbers in a column beside the plot."""
    for number, trial in enumerate(found.front, start=1):
        axes.annotate(
            str(number), (trial.found.speedup.value, trial.found.quality.value), xytext=(7, 5),
            textcoords="offset points", fontsize=9, fontweight="bold",
        )  # fmt: skip
    lines = [f"{number}  {_lines(trial.settings.label)}" for number, trial in enumerate(found.front, start=1)]
    axes.text(1.02, 1.0, "\n\n".join(lines), transform=axes.transAxes, fontsize=7.5, va="top", ha="left")


def _lines(label: str) -> str:
    """The solver and its steps, and a line for each technique, indented under the number."""
    return label.replace(", ", "\n    ")
