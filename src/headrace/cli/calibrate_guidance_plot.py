"""The picture of a guidance calibration, like Fig. 9 of SynerDiff: similarity against when rows are skipped."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from headrace.files import write_file
from headrace.techniques.guidance.artefact import TAUS, GuidanceArtefact

_DPI = 130


def draw_similarity(artefact: GuidanceArtefact, path: Path) -> None:
    """A line a number of skipped rows, mean and deviation, over the first of them. Raises `OutputError`."""
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axis = figure.subplots()
    starts, mean, deviation = (np.array(getattr(artefact, name)) for name in ("starts", "similarity", "deviation"))
    shares = artefact.shares
    for index, share in enumerate(shares):
        colour = matplotlib.colormaps["viridis"](0.9 * index / max(len(shares) - 1, 1))
        count = round(share * artefact.steps)
        label = "all the rest" if share == 1 else f"{share:.0%} (about {count} of {artefact.steps} steps)"
        beside = starts + (index - len(shares) / 2) * 0.004  # so that the bars of lines that meet can be told apart
        up, down = np.minimum(deviation[:, index], 1 - mean[:, index]), np.minimum(deviation, mean)[:, index]
        axis.plot(starts, mean[:, index], "o-", color=colour, markersize=4, linewidth=1.5, label=label)
        axis.errorbar(beside, mean[:, index], [down, up], fmt="none", ecolor=colour, alpha=0.45, elinewidth=1)
    for tau in TAUS:
        axis.axhline(tau, color="0.4", linewidth=0.8, linestyle=":")
        axis.annotate(f"tau {tau:g}", (starts[0], tau), fontsize=7, color="0.4", va="bottom")
    axis.set_xlabel("progress of the first skipped row")
    axis.set_ylabel(f"cosine of {artefact.extractor} features{', less their mean' if artefact.centred else ''}")
    axis.xaxis.set_major_formatter(PercentFormatter(1.0))
    axis.set_ylim(top=1.02)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(title="rows skipped", fontsize=8, title_fontsize=8, loc="lower right", frameon=False)
    solver = artefact.solver_name or artefact.solver.split()[0].removesuffix("Scheduler")
    axis.set_title(
        f"{artefact.model}, {solver}, {artefact.steps} steps, guidance {artefact.guidance_scale:g}: "
        f"similarity to the picture without skips, {artefact.pictures} images",
        fontsize=10,
    )
    write_file(path, lambda temporary: figure.savefig(temporary, format="png", dpi=_DPI))
