"""A picture of rounds: the rows of each, those that skip guidance, and the decoder chunks beside them, over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from headrace.files import write_file
from headrace.serving.state import Size
from headrace.serving.timeline import ChunkSpan, RoundSpan, Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 130
_FILLS = ("#a8dadc", "#457b9d", "#1d3557", "#e9c46a", "#f4a261", "#e76f51", "#2a9d8f", "#6d597a")


def draw_timeline(timeline: Timeline, title: str, path: Path) -> None:
    """The rounds of the first replica: rows by size, hatched where they evaluate one branch alone; below, a line for
    each decoding, cut where its chunks are. Raises `OutputError`.
    """
    rounds = [one for one in timeline.rounds if one.replica == timeline.rounds[0].replica]
    start, end = rounds[0].start, max(one.end for one in rounds)
    chunks = [one for one in timeline.chunks if one.replica == rounds[0].replica and one.start < end]
    sizes = sorted({size for one in rounds for size in one.groups} | {one.size for one in chunks}, key=_area)
    fills = {size: _FILLS[index % len(_FILLS)] for index, size in enumerate(sizes)}
    lanes = _lanes(chunks)
    figure = Figure(figsize=(13, 4.2 + 0.16 * (max(lanes, default=0) + 1)), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1 + 0.08 * len(set(lanes))])
    _draw_rows(above, rounds, start, fills)
    _draw_chunks(below, chunks, lanes, start, fills)
    above.set_title(title, fontsize=11, loc="left")
    below.set_xlim(0, end - start)
    below.set_xlabel(f"seconds since {start:.1f} s")
    handles = [Patch(facecolor=fills[size], edgecolor="white", label=f"{size[1]}x{size[0]}") for size in sizes]
    handles.append(Patch(facecolor="0.85", edgecolor="0.3", hatch="////", label="guidance skipped or not wanted"))
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), frameon=False, fontsize=9)
    write_file(path, lambda temporary: figure.savefig(temporary, format="png", dpi=_DPI))


def _draw_rows(axes: Axes, rounds: Sequence[RoundSpan], start: float, fills: dict[Size, str]) -> None:
    for one in rounds:
        left, width, base = one.start - start, one.end - one.start, 0
        for size in sorted(one.groups, key=_area):
            rows, single = one.groups[size]
            axes.bar(
                left, rows - single, width, base, align="edge", color=fills[size], edgecolor="white", linewidth=0.6
            )
            axes.bar(
                left, single, width, base + rows - single, align="edge", color=fills[size], edgecolor="white",
                linewidth=0.6, hatch="////",
            )  # fmt: skip
            base += rows
    axes.set_ylabel("rows of a round")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)


def _draw_chunks(
    axes: Axes, chunks: Sequence[ChunkSpan], lanes: Sequence[int], start: float, fills: dict[Size, str]
) -> None:
    for chunk, lane in zip(chunks, lanes, strict=True):
        left, width = chunk.start - start, chunk.end - chunk.start
        axes.barh(lane, width, 0.78, left, color=fills[chunk.size], edgecolor="white", linewidth=0.6)
    axes.set_ylabel("decodings")
    axes.set_yticks([])
    axes.set_ylim(max(lanes, default=0) + 0.6, -0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if not chunks:
        axes.annotate("none in this time", (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", color="0.5")


def _lanes(chunks: Sequence[ChunkSpan]) -> list[int]:
    """A line for each chunk: all of a decoding share one, which is free again after the last of them."""
    ends: dict[int, float] = {}
    for chunk in chunks:
        ends[chunk.number] = max(ends.get(chunk.number, 0.0), chunk.end)
    taken: list[float] = []
    found: dict[int, int] = {}
    for chunk in sorted(chunks, key=lambda one: one.start):
        if chunk.number in found:
            continue
        lane = next((lane for lane, until in enumerate(taken) if until <= chunk.start), len(taken))
        taken[lane : lane + 1] = [ends[chunk.number]]
        found[chunk.number] = lane
    return [found[chunk.number] for chunk in chunks]


def _area(size: Size) -> int:
    return size[0] * size[1]
