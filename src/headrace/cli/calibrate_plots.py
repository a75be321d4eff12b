"""Pictures of a calibration: how blocks change (Fig. 2b of arXiv 2312.03209) and how long values live (its Fig. 4)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from headrace.cli.block_label import block_label, block_part
from headrace.files import write_file
from headrace.techniques.block_caching.artefact import BlockCacheArtefact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

Colour = tuple[float, float, float, float]

# By the part of a U-Net; a transformer's blocks have one sequence of colours.
_MAPS = {"down": "Blues", "mid": "Greys", "up": "Oranges", "": "viridis"}
_TITLES = {"transformer": "transformer blocks", "resnet": "ResNet blocks", "branch": "deep branch"}
_DPI = 130


def draw_profile(artefact: BlockCacheArtefact, path: Path) -> None:
    """The change of every block from row to row, mean and deviation, a panel a kind. Raises `OutputError`."""
    profile = artefact.profile
    kinds = [kind for kind in _TITLES if kind in profile.work.kinds]
    figure = Figure(figsize=(11, 0.6 + 4.2 * len(kinds)), layout="constrained")
    figure.suptitle(
        f"{_setting(artefact)}: relative change of what blocks add, mean and deviation of {profile.images} images"
    )
    for axis, kind in zip(np.atleast_1d(figure.subplots(len(kinds), 1, sharex=True)), kinds, strict=True):
        _draw_changes(axis, artefact, [i for i, own in enumerate(profile.work.kinds) if own == kind])
        axis.set_title(_TITLES[kind], fontsize=10, loc="left")
        axis.set_ylabel("relative L1 change")
        axis.set_xlabel("row")
    _save(figure, path)


def _draw_changes(axis: Axes, artefact: BlockCacheArtefact, indices: Sequence[int]) -> None:
    profile = artefact.profile
    blocks = [profile.work.blocks[index] for index in indices]
    rows = np.arange(1, len(profile.timesteps))
    for index, block, colour in zip(indices, blocks, colours(blocks), strict=True):
        mean, deviation = profile.mean[:, index], profile.deviation[:, index]
        axis.plot(rows, mean, color=colour, linewidth=1.4, label=block_label(block))
        low, high = np.maximum(mean - deviation, 0), mean + deviation
        axis.fill_between(rows, low, high, color=colour, alpha=0.15, linewidth=0)
    axis.set_ylim(bottom=0)
    axis.set_xlim(rows[0], max(rows[-1], rows[0] + 1))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    columns = 1 + (len(blocks) - 1) // 16
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), ncols=columns, frameon=False)


def draw_lifetimes(artefact: BlockCacheArtefact, path: Path) -> None:
    """A line a block: dots where it is evaluated, arrows for as long as its value is reused. Raises `OutputError`."""
    schedule = artefact.schedule
    rows, count = len(schedule), len(schedule.blocks)
    figure = Figure(figsize=(min(18.0, 3.5 + 0.32 * rows), 1.4 + 0.3 * count), layout="constrained")
    axis = figure.subplots()
    for line, colour in enumerate(colours(schedule.blocks)):
        computed = np.flatnonzero(schedule.compute[:, line])
        axis.plot(computed + 1, np.full(len(computed), line), "o", color=colour, markersize=5)
        for start, end in zip(computed, [*computed[1:], rows], strict=True):
            if end - start > 1:
                arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0}
                axis.annotate("", xy=(end - 1 + 1.3, line), xytext=(start + 1, line), arrowprops=arrow)
    axis.set_yticks(range(count), [block_label(block) for block in schedule.blocks], fontsize=8)
    axis.set_ylim(count - 0.4, -0.6)
    axis.set_xlim(0.5, rows + 0.9)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("row (dot: evaluated; arrow: its value is reused)")
    limit = "delta" if artefact.criterion == "change" else artefact.criterion
    left_out = f"{limit} {artefact.delta:.3g}: {artefact.saving:.1%} of the network's work is left out"
    axis.set_title(f"{_setting(artefact)}\n{left_out}", fontsize=10)
    axis.grid(axis="x", alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def colours(blocks: Sequence[str]) -> list[Colour]:
    """A colour a block: blue on the way down, grey in the middle, orange on the way up, later ones darker."""
    parts = [block_part(block) for block in blocks]
    result = []
    for index, part in enumerate(parts):
        before, of_part = parts[:index].count(part), parts.count(part)
        depth = 0.4 + 0.6 * (before + 1) / of_part if part else 0.9 * before / max(of_part - 1, 1)
        result.append(matplotlib.colormaps[_MAPS[part]](depth))
    return result


def _setting(artefact: BlockCacheArtefact) -> str:
    solver = artefact.solver_name or artefact.solver.split()[0].removesuffix("Scheduler")
    return f"{artefact.model}, {solver}, {artefact.steps} steps"


def _save(figure: Figure, path: Path) -> None:
    write_file(path, lambda temporary: figure.savefig(temporary, format="png", dpi=_DPI))
