"""Tables and the plot of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from headrace.benchmarks._block_cache.quality import Quality
from headrace.benchmarks._postdiff.combination import Service
from headrace.benchmarks._postdiff.mechanisms import TOGETHER
from headrace.benchmarks._postdiff.speed import Speed
from headrace.files import write_file
from headrace.models.row_call import Source

_COLOURS = {
    "PostDiff": "#d00000", "PostDiff, each alone": "#2a6f97", "fewer steps": "#888888", "DeepCache": "#e09f3e",
    "T-GATE": "#6a994e", "Faster Diffusion": "#9d4edd", "tuned grid": "#f4a6a6",
    "deep branch by displacement": "#c2185b", "constants varied": "#7f9fb5",
}  # fmt: skip


def speed_table(speed: Speed, device: str) -> Table:
    """A line a mechanism."""
    title = f"{speed.model}, {speed.pixels} px, {speed.steps} steps, {device}"
    table = Table("", "seconds", "faster by", "paper", title=title)
    for name, seconds in speed.seconds.items():
        faster = speed.speedups.get(name)
        paper = f"x{speed.paper:.2f}" if name == TOGETHER else ""
        table.add_row(name, f"{seconds:.1f}", "" if faster is None else f"x{faster:.2f}", paper)
    return table


def combination_table(services: Sequence[Service]) -> Table:
    """A line a way to serve."""
    table = Table("", "images/s", "over diffusers", "recall", title="mixed requests, from prompt to pixels")
    for one in services:
        shown = "" if one.recall is None else f"{one.recall:.1%}"
        table.add_row(one.name, f"{one.images_per_second:.2f}", f"x{one.speedup:.2f}", shown)
    return table


def ranking_table(agreement: Mapping[str, Mapping[int, float]], sources: Mapping[Source, float]) -> Table:
    """How well few pictures rank settings, and which branch's cross-attention keeps pictures nearest to plain ones."""
    table = Table("", "", "figure", title="calibration and cross-attention")
    for measure, found in agreement.items():
        for pictures, tau in found.items():
            table.add_row(f"ranking by {measure}, {pictures} pictures", "Kendall's tau to the others'", f"{tau:.2f}")
    for source, decibels in sources.items():
        table.add_row(f"cross-attention of {source}", "PSNR to plain, dB", f"{decibels:.1f}")
    return table


def plot(qualities: Sequence[Quality], path: Path) -> None:
    """Recall and Frechet distance (PSNR where there is no data) against latency, a colour a method."""
    from matplotlib.figure import Figure

    measures = [("psnr", "PSNR to plain, dB")]
    if all(one.recall is not None for one in qualities):
        measures = [("recall", "recall at 1"), ("frechet", "Frechet distance to real pictures"), *measures]
    figure = Figure(figsize=(5.4 * len(measures), 4.6), layout="constrained")
    for number, (name, label) in enumerate(measures, start=1):
        axes = figure.add_subplot(1, len(measures), number)
        for group in dict.fromkeys(one.group for one in qualities):
            points = sorted(
                (one.latency, getattr(one, name))
                for one in qualities
                if one.group == group and not (name == "psnr" and one.psnr >= 100)
            )
            joined = "o-" if group in ("fewer steps", "DeepCache", "T-GATE") else "o"
            if points:
                axes.plot(
                    *zip(*points, strict=True), joined, color=_COLOURS.get(group, "#333333"), label=group, markersize=4
                )
        axes.set_xlabel("latency, plain = 1")
        axes.set_ylabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=8)
    write_file(path, lambda target: figure.savefig(target, dpi=150))
