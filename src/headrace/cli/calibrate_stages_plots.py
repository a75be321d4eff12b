"""Pictures of a calibration of stages: similarity of all noise levels, and to both ends of the time line."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from headrace.files import write_file
from headrace.techniques.multistage.artefact import StagesArtefact
from headrace.techniques.multistage.calibrate import Question, end_cuts
from headrace.techniques.multistage.kernel import kernel_of
from headrace.techniques.multistage.schedule import time_of
from headrace.techniques.multistage.similarity import EndSimilarity

_DPI = 100
_BINS = 100


def draw_heat_map(artefact: StagesArtefact, path: Path) -> None:
    """The table of similarities, with the stages as squares. Raises `OutputError`."""
    figure = Figure(figsize=(5.6, 4.8), layout="constrained")
    axis = figure.subplots()
    times, similarity = np.array(artefact.times), np.array(artefact.similarity)
    mesh = axis.pcolormesh(times, times, similarity, shading="nearest", cmap="viridis", vmin=0, vmax=1)
    figure.colorbar(mesh, label="cosine" if artefact.method == "gradient" else "similarity (equation 6)")
    edges = [times[0], *_own_time(artefact), times[-1]]
    for begin, end in pairwise(edges):
        axis.plot([begin, end, end, begin, begin], [begin, begin, end, end, begin], color="white", linewidth=1.5)
    axis.set(xlabel="time", ylabel="time", aspect="equal")
    axis.set_title(f"{artefact.data}: {artefact.definition}", fontsize=9)
    write_file(path, lambda temporary: figure.savefig(temporary, format="png", dpi=_DPI))


def draw_curve(ends: EndSimilarity, question: Question, path: Path) -> None:
    """Similarity to the denoisers at both ends, in bins of time, and the boundaries of Algorithm 1.

    Raises `OutputError`.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    to_image, to_noise = ends.to_image[question.prediction], ends.to_noise[question.prediction, question.end]
    _draw_bins(axis, ends.times, to_image, "C0", "to time 0")
    _draw_bins(axis, ends.times, to_noise, "C3", f"to time 1 ({question.end})")
    for name, boundary, colour in zip(("t1", "t2"), end_cuts(ends, question), ("C0", "C3"), strict=True):
        axis.axvline(boundary, color=colour, linestyle="--", linewidth=1, label=f"{name} = {boundary:.3f}")
    axis.axhline(question.alpha, color="0.4", linewidth=0.8, linestyle=":")
    axis.set(xlabel=f"time of the {question.kernel} kernel", ylabel="similarity (equation 6)", ylim=(0, 1.03))
    axis.set_title(f"{len(ends.times)} samples, eta {question.eta:.4g}, alpha {question.alpha:g}", fontsize=9)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8)
    write_file(path, lambda temporary: figure.savefig(temporary, format="png", dpi=_DPI))


def _draw_bins(axis: Axes, times: np.ndarray, values: np.ndarray, colour: str, label: str) -> None:
    """Dots for samples, a line for the means of equally many, one behind the other."""
    axis.plot(times, values, ".", color=colour, markersize=1.5, alpha=0.25)
    parts = min(_BINS, len(times))
    middles = [part.mean() for part in np.array_split(times, parts)]
    means = [part.mean() for part in np.array_split(values, parts)]
    axis.plot(middles, means, color=colour, linewidth=1.5, label=label)


def _own_time(artefact: StagesArtefact) -> list[float]:
    """The boundaries in the time that the table is over."""
    if artefact.kernel == "vp":
        return list(artefact.boundaries)
    fine = np.linspace(0, 1, 10_001)
    levels = time_of(kernel_of(artefact.kernel).sigma(fine))
    return np.interp(artefact.boundaries, levels, fine).tolist()
