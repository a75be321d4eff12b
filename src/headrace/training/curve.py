"""The loss of a phase as a picture."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from headrace.files import write_file
from headrace.training.log import TrainingLog

_KEPT = 0.95
_COLOURS = ("tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")


def plot_curve(log: TrainingLog, path: Path, title: str, scores: tuple[str, ...], images: int) -> None:
    """Draw the loss over steps of so many `images`, each step's and smoothed, and the scores on one second axis."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    steps, losses = log.series("loss")
    axes.plot(steps, losses, color="tab:blue", linewidth=0.6, alpha=0.3, label="loss, each step")
    smoothed = f"loss, exponential average ({_KEPT:g} kept a step)"
    axes.plot(steps, smooth(losses), color="tab:blue", linewidth=1.6, label=smoothed)
    if losses and min(losses) > 0:
        axes.set_yscale("log")
    plural = "" if images == 1 else "s"
    axes.set(title=title, xlabel=f"optimiser step ({images:,} image{plural} each)", ylabel="training loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3, which="both")
    lines = list(axes.get_lines())
    drawn = [name for name in scores if log.series(name)[0]]
    if drawn:
        other = axes.twinx()
        for name, colour in zip(drawn, _cycle(len(drawn)), strict=True):
            points, values = log.series(name)
            lines += other.plot(points, values, color=colour, marker="o", markersize=3, label=f"{name} (right)")
        other.set_ylabel("scores of the averaged weights")
    figure.legend(handles=lines, loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    write_file(path, lambda temporary: figure.savefig(temporary, dpi=110))


def smooth(values: list[float], kept: float = _KEPT) -> list[float]:
    """Exponential average, corrected for its start."""
    smoothed, average = [], 0.0
    for number, value in enumerate(values, start=1):
        average = kept * average + (1 - kept) * value
        smoothed.append(average / (1 - kept**number))
    return smoothed


def _cycle(count: int) -> list[str]:
    return [_COLOURS[number % len(_COLOURS)] for number in range(count)]
