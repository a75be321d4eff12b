"""Pictures of a latency table: throughput against batch (Fig. 4 of SynerDiff), and rounds of rows beside chunks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from headrace.files import write_file
from headrace.serving.latency_table import LatencyTable, SizeLatencies
from headrace.serving.measurement import decoded_figure, doubling

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 130


def draw_throughput(table: LatencyTable, path: Path) -> None:
    """Rows and pictures a second of network and decoder, a line a size, a ring where it saturates."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    rows, pictures = figure.subplots(1, 2)
    for entry, colour in zip(table.sizes, _colours(len(table.sizes)), strict=True):
        batches = [u for u in entry.grids[0].rows if u]
        rate = {u: u / float(table.unet_s(entry.size, u)) for u in batches}
        _line(rows, rate, entry.saturation, colour, _name(entry))
        names = {v: decoded_figure(entry.size, v) for v in doubling(max(entry.grids[0].decodings))}
        decoded = {v: table.figures[name] for v, name in names.items() if name in table.figures}
        full = round(table.figures.get(f"decoder_saturation_{_name(entry)}", 0))
        _line(pictures, decoded, full, colour, _name(entry))
    rows.set(title="denoising", xlabel="rows in a call", ylabel="rows a second")
    pictures.set(title="decoding", xlabel="pictures in a call", ylabel="pictures a second")
    for axis in (rows, pictures):
        _finish(axis)
    figure.suptitle(f"{table.model}, {table.dtype}, {table.machine}\nring: more in a call gain little", fontsize=9)
    _save(figure, path)


def draw_contention(table: LatencyTable, path: Path) -> None:
    """A panel a size: how long a round's rows take alone, beside decodings, and without their other branch."""
    count = len(table.sizes)
    figure = Figure(figsize=(min(18.0, 1.5 + 5 * count), 4.4), layout="constrained")
    for axis, entry in zip(np.atleast_1d(figure.subplots(1, count)), table.sizes, strict=True):
        first, last = entry.grids[0], entry.grids[-1]
        rows, beside = np.array(first.rows[1:]), max(first.decodings)
        lines = [("alone", 0, 1)]
        lines += [
            (f"beside {v} decoding{'s'[: v > 1]}, {_cut(chunks)}", v, chunks)
            for v in dict.fromkeys((1, beside))
            for chunks in dict.fromkeys((first.chunks, last.chunks))
        ]
        for (label, v, chunks), colour in zip(lines, _colours(len(lines)), strict=True):
            axis.plot(rows, 1000 * table.unet_s(entry.size, rows, v, 0, chunks), "o-", color=colour, label=label)
            if first.skip_shares[-1] == 1:
                skipped = 1000 * table.unet_s(entry.size, rows, v, rows, chunks)
                axis.plot(rows, skipped, ":", color=colour, linewidth=1.2)
        axis.set(title=_name(entry), xlabel="rows in a round", ylabel="ms until the rows are done")
        _finish(axis)
    figure.suptitle(
        f"{table.model}, {table.lane} lane, {table.machine}\nrounds of rows (dotted: all without their other branch)",
        fontsize=9,
    )
    _save(figure, path)


def _line(axis: Axes, values: dict[int, float], full: int, colour: object, label: str) -> None:
    axis.plot(list(values), list(values.values()), "o-", color=colour, markersize=4, label=label)
    if full in values:
        axis.plot(
            [full], [values[full]], "o", markersize=11, markerfacecolor="none", markeredgecolor=colour, clip_on=False
        )


def _finish(axis: Axes) -> None:
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_ylim(0, 1.08 * axis.get_ylim()[1])
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False)


def _cut(chunks: int) -> str:
    return "whole" if chunks == 1 else f"a chunk of {chunks}"


def _name(entry: SizeLatencies) -> str:
    return f"{entry.width}x{entry.height}"


def _colours(count: int) -> Sequence[tuple[float, float, float, float]]:
    return [matplotlib.colormaps["viridis"](0.85 * index / max(count - 1, 1)) for index in range(count)]


def _save(figure: Figure, path: Path) -> None:
    write_file(path, lambda temporary: figure.savefig(temporary, format="png", dpi=_DPI))
