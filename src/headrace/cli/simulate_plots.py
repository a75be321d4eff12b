"""Pictures of simulations in the manner of the paper's figures 11 and 12: what a policy does as load grows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from headrace.files import write_file
from headrace.serving.load_study import CONTENDERS, Run
from headrace.serving.report import Report, queue_over_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 130
_COLOURS = dict(
    zip(
        CONTENDERS,
        ("#8d99ae", "#e09f3e", "#2a6f97", "#c1121f", "#6a994e", "#9d4edd", "#bc6c25", "#e5989b"),
        strict=True,
    )
)
_MARKERS = dict(zip(CONTENDERS, "svoDPX^*", strict=True))
_MEASURES: Sequence[tuple[str, str, Callable[[Report], float]]] = (
    ("throughput", "images a second", lambda report: report.throughput),
    ("mean latency", "seconds", lambda report: report.mean_latency_s),
    ("P99 latency", "seconds", lambda report: report.p99_latency_s),
)


def draw_loads(runs: Sequence[Run], path: Path) -> None:
    """Throughput, mean and P99 latency against the arrival rate, a line a policy. Raises `OutputError`."""
    figure = Figure(figsize=(13.5, 4.8), layout="constrained")
    policies = list(dict.fromkeys(one.policy for one in runs))
    panels = figure.subplots(1, len(_MEASURES))
    for axes, (title, unit, measure) in zip(panels, _MEASURES, strict=True):
        for name in policies:
            own = sorted((one for one in runs if one.policy == name), key=_rate)
            axes.plot(
                [_rate(one) for one in own], [measure(one.report) for one in own], color=_COLOURS[name],
                marker=_MARKERS[name], markersize=6, linewidth=2.2 if name == "synergetic" else 1.6, label=name,
                zorder=3 if name == "synergetic" else 2,
            )  # fmt: skip
        _dress(axes, title, "arrivals a second", unit)
        if title == "throughput":
            rates = sorted({_rate(one) for one in runs})
            axes.plot(rates, rates, color="0.75", linestyle=":", zorder=1)
            axes.annotate("all that arrives", (rates[-1], rates[-1]), color="0.5", fontsize=8, ha="right", va="bottom")
            axes.set_ylim(bottom=0)
        else:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_formatter(lambda value, _: "")
        _mark_capacity(axes, runs, told=title == "throughput")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(policies), frameon=False
    )
    write_file(path, lambda temporary: figure.savefig(temporary, format="png", dpi=_DPI))


def draw_run(runs: Sequence[Run], path: Path) -> None:
    """One load: how many requests took how long at most, and how many had no slot, over time. Raises `OutputError`."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    figure.suptitle(runs[0].workload.name, fontsize=11)
    latencies, queue = figure.subplots(1, 2)
    for one in runs:
        ordered = np.sort(one.records.latency)
        latencies.plot(
            ordered, np.arange(1, len(ordered) + 1) / len(ordered), color=_COLOURS[one.policy], label=one.policy
        )
        times, waiting = queue_over_time(one.records)
        queue.plot(times, waiting, color=_COLOURS[one.policy], linewidth=1.4)
    latencies.axhline(0.99, color="0.75", linestyle=":", zorder=1)
    latencies.annotate(
        "P99", (1.0, 0.99), xycoords=("axes fraction", "data"), color="0.5", fontsize=8, ha="right", va="top"
    )
    latencies.set_xscale("log")
    latencies.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    latencies.xaxis.set_minor_formatter(lambda value, _: "")
    latencies.set_ylim(0, 1.02)
    _dress(latencies, "share of requests done within", "seconds from arrival to picture", "")
    queue.set_ylim(bottom=0)
    _dress(queue, "requests without a slot", "seconds since the first arrival", "")
    figure.legend(*latencies.get_legend_handles_labels(), loc="outside lower center", ncols=len(runs), frameon=False)
    write_file(path, lambda temporary: figure.savefig(temporary, format="png", dpi=_DPI))


def _rate(one: Run) -> float:
    return one.workload.rate or 0.0


def _mark_capacity(axes: Axes, runs: Sequence[Run], told: bool) -> None:
    known = next((one.workload for one in runs if one.workload.load and one.workload.rate), None)
    if known is None or not known.load or not known.rate:
        return
    capacity = known.rate / known.load
    axes.axvline(capacity, color="0.75", linestyle="--", linewidth=1, zorder=1)
    if told:
        axes.annotate(
            "capacity", (capacity, 0.0), xycoords=("data", "axes fraction"), xytext=(4, 4),
            textcoords="offset points", fontsize=8, color="0.5",
        )  # fmt: skip


def _dress(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
