"""Tables and pictures of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.table import Table

from headrace.benchmarks._scheduler.comparison import (
    PAPER_LATENCY_CUT,
    PAPER_THROUGHPUT_RATIO,
    Margin,
    Study,
)
from headrace.files import write_file
from headrace.serving.load_study import BASELINES, CONTENDERS, SYNERGETIC

_COLOURS = dict(
    zip(
        CONTENDERS,
        ("#8d99ae", "#e09f3e", "#2a6f97", "#c1121f", "#6a994e", "#9d4edd", "#bc6c25", "#e5989b"),
        strict=True,
    )
)


def runs_table(study: Study, title: str) -> Table:
    """A line a contender, grouped by load."""
    table = Table("load", title=title)
    table.add_column("policy", no_wrap=True)
    for name in ("img/s", "mean s", "P50 s", "P99 s", "skipped", "similar"):
        table.add_column(name, justify="right")
    for load, runs in study.runs.items():
        for number, one in enumerate(runs):
            report = one.report
            similarity = "" if report.similarity is None else f"{report.similarity:.3f}"
            table.add_row(
                load if number == 0 else "", one.policy, f"{report.throughput:.3g}", f"{report.mean_latency_s:.2f}",
                f"{report.p50_latency_s:.2f}", f"{report.p99_latency_s:.2f}", f"{report.skipped_share:.1%}", similarity,
                end_section=number == len(runs) - 1,
            )  # fmt: skip
    return table


def margins_table(study: Study) -> Table:
    """Ours against the paper's baseline and against the best in each figure, at each load."""
    table = Table("load", title=f"{SYNERGETIC} against others: throughput, mean latency, P99")
    for name in ("over continuous", "over the best baseline"):
        table.add_column(name, justify="right")
    for one, best in zip(study.margins(), study.margins(best=True), strict=True):
        table.add_row(one.load, _shown(one), _shown(best))
    paper = f"x{PAPER_THROUGHPUT_RATIO:.2f}, {-PAPER_LATENCY_CUT:+.1%}, {-PAPER_LATENCY_CUT:+.1%}"
    over_best = f"x{study.peaks[SYNERGETIC] / max(study.peaks[name] for name in BASELINES):.2f}"
    table.add_row("peak throughput", f"x{study.throughput_ratio:.2f}", over_best)
    table.add_row("the paper, over InstGenIE, up to", paper, "")
    return table


def ablations_table(study: Study) -> Table:
    """What each part brings at each load."""
    table = Table("part left out", title="the whole against itself without a part: throughput, mean latency, P99")
    for load in study.runs:
        table.add_column(load, justify="right")
    for name, by_load in study.ablations().items():
        cells = (_shown(by_load[load], "\n") if load in by_load else "" for load in study.runs)
        table.add_row(name.removeprefix("no-"), *cells)
    return table


def plot(studies: Mapping[str, Study], path: Path) -> None:
    """Throughput, mean and P99 latency of every contender at every load, a row of panels a study."""
    from matplotlib.figure import Figure

    measures = (
        ("throughput", "images a second"),
        ("mean_latency_s", "mean latency, s"),
        ("p99_latency_s", "P99 latency, s"),
    )
    figure = Figure(figsize=(15, 4.4 * len(studies)), layout="constrained")
    panels = figure.subplots(len(studies), len(measures), squeeze=False)
    for row, (title, study) in zip(panels, studies.items(), strict=True):
        loads = list(study.runs)
        everywhere = set.intersection(*({one.policy for one in runs} for runs in study.runs.values()))
        names = [name for name in CONTENDERS if name in everywhere]
        width = 0.84 / len(names)
        for axes, (measure, label) in zip(row, measures, strict=True):
            for place, name in enumerate(names):
                heights = [getattr(study.report(load, name), measure) for load in loads]
                left = [index - 0.42 + place * width for index in range(len(loads))]
                axes.bar(left, heights, width * 0.94, align="edge", color=_COLOURS[name], label=name)
            axes.set_xticks(range(len(loads)), loads)
            axes.set_title(f"{title}: {label}", fontsize=10.5, loc="left")
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", alpha=0.25)
            axes.set_axisbelow(True)
            if measure != "throughput":
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
                axes.yaxis.set_minor_formatter(lambda value, _: "")
    handles = panels[0][0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=len(handles[1]), frameon=False)
    write_file(path, lambda target: figure.savefig(target, format="png", dpi=140))


def _shown(one: Margin, between: str = ", ") -> str:
    return between.join((f"x{one.throughput_ratio:.2f}", f"{-one.mean_latency_cut:+.1%}", f"{-one.p99_cut:+.1%}"))
