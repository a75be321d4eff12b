"""Tables and the quality-against-latency plot of the benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from headrace.benchmarks._block_cache.batch import MixedBatch
from headrace.benchmarks._block_cache.quality import Quality
from headrace.benchmarks._block_cache.speed import Speed
from headrace.files import write_file

_COLOURS = {
    "no cache": "#333333", "block cache": "#2a6f97", "scale-shift": "#61a5c2", "all blocks together": "#d00000",
    "deep branch": "#7b2d26", "ResNet blocks": "#b56576", "fewer steps": "#888888", "DeepCache": "#e09f3e",
    "T-GATE": "#6a994e", "pyramid attention broadcast": "#9d4edd",
}  # fmt: skip


def speed_table(speeds: Sequence[Speed], device: str, pixels: int) -> Table:
    """Speed-ups on SD 1.5's network beside the paper's."""
    table = Table(
        "solver",
        "steps",
        "evaluated",
        "no cache",
        "transformers cached",
        "faster by",
        "paper",
        "all blocks cached",
        "faster by",
        title=f"SD 1.5, {pixels} px, {device}",
    )
    for one in speeds:
        paper = "" if one.paper is None else f"x{one.paper:.2f}"
        table.add_row(
            one.solver, str(one.steps), f"{one.share:.0%}", f"{one.plain:.1f} s", f"{one.cached:.1f} s",
            f"x{one.speedup:.2f}", paper, f"{one.together:.1f} s", f"x{one.speedup_together:.2f}",
        )  # fmt: skip
    return table


def quality_table(qualities: Sequence[Quality], solver: str, steps: int, extractor: str) -> Table:
    """A line a contestant."""
    title = f"{solver}, {steps} steps: against no cache and the real pictures ({extractor})"
    table = Table("", "latency", "faster by", "PSNR", "SSIM", "recall", "Frechet", title=title)
    for one in qualities:
        table.add_row(
            one.name, f"{one.latency:.3f}", f"x{1 / one.latency:.2f}",
            "" if one.psnr >= 100 else f"{one.psnr:.1f}", f"{one.ssim:.3f}",
            "" if one.recall is None else f"{one.recall:.1%}", "" if one.frechet is None else f"{one.frechet:.3f}",
        )  # fmt: skip
    return table


def batch_line(mixed: MixedBatch) -> str:
    """The mixed batch in words."""
    same = "as alone" if mixed.isolated else f"up to {mixed.largest_difference} levels from alone"
    return (
        f"16 mixed requests: {mixed.images_per_second_cached:.2f} images/s with the cache, "
        f"{mixed.images_per_second:.2f} without (x{mixed.speedup:.2f}), {mixed.share_evaluated:.0%} of the blocks "
        f"evaluated; pictures {same}"
    )


def plot(qualities: Sequence[Quality], path: Path) -> None:
    """PSNR, SSIM and (where measured) Frechet distance against latency, a line a method."""
    from matplotlib.figure import Figure

    measures = [("psnr", "PSNR to uncached, dB"), ("ssim", "SSIM to uncached")]
    if all(one.frechet is not None for one in qualities):
        measures.append(("frechet", "Frechet distance to real pictures"))
    figure = Figure(figsize=(5.2 * len(measures), 4.4), layout="constrained")
    for number, (name, label) in enumerate(measures, start=1):
        axes = figure.add_subplot(1, len(measures), number)
        _draw(axes, qualities, name)
        axes.set_xlabel("latency, uncached = 1")
        axes.set_ylabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=8)
    write_file(path, lambda target: figure.savefig(target, dpi=150))


def _draw(axes: Any, qualities: Sequence[Quality], name: str) -> None:
    for group in dict.fromkeys(one.group for one in qualities):
        points = sorted(
            (one.latency, getattr(one, name))
            for one in qualities
            if one.group == group and not (name == "psnr" and one.psnr >= 100)
        )
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color=_COLOURS.get(group), label=group, markersize=4)
