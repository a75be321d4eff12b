"""Table and picture of the benchmark."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from headrace.benchmarks._serving.contest import Contest
from headrace.benchmarks._serving.outcome import LOST
from headrace.benchmarks._serving.study import OURS, PEER, Study
from headrace.benchmarks._serving.summary import Summary, summarise
from headrace.files import write_file

_COLOURS = {OURS: "#2a6f97", PEER: "#b9c6d0"}
_PANELS = (("throughput", "images a second"), ("p50_s", "P50 latency, s"), ("p99_s", "P99 latency, s"))


def runs_table(study: Study, title: str) -> Table:
    """A line for each load and server; columns that would be empty are left out."""
    runs = list(study.runs())
    lines = [_cells(one) for _, _, one in runs]
    shown = [name for name in lines[0] if any(line[name] for line in lines)]
    table = Table(title=title)
    for name in ("load", "server"):
        table.add_column(name, no_wrap=True)
    for name in shown:
        table.add_column(name, justify="right")
    for number, ((load, server, _), line) in enumerate(zip(runs, lines, strict=True)):
        first = number == 0 or runs[number - 1][0] != load
        last = number + 1 == len(runs) or runs[number + 1][0] != load
        table.add_row(load if first else "", server, *(line[name] for name in shown), end_section=last)
    return table


def contest_line(found: Contest) -> str:
    """A load that is over, in a line."""
    parts = []
    for server, turns in found.turns.items():
        one = summarise(turns)
        parts.append(f"{server} {one.throughput:.3g} images/s, P99 {_seconds(one.p99_s) or '-'} s, {one.lost} lost")
    return f"{found.load.name}: {'; '.join(parts)}"


def _cells(one: Summary) -> dict[str, str]:
    errors = ", ".join(f"{count} {kind}" for kind, count in one.errors.items() if kind != LOST)
    return {
        "images/s": f"{one.throughput:.3g}", "mean s": _seconds(one.mean_s), "P50": _seconds(one.p50_s),
        "P95": _seconds(one.p95_s), "P99": _seconds(one.p99_s), "preview": _seconds(one.preview_p50_s),
        "in time": _share(one.attainment), "lost": str(one.lost), "errors": errors,
    }  # fmt: skip


def summary_line(study: Study) -> str:
    """The headline in words."""
    figures = study.figures()
    parts = [f"{name} {rate:.2f} images/s where requests never lack" for name, rate in study.capacities.items()]
    if figures["throughput_ratio"] is not None:
        parts.append(f"at the high load x{figures['throughput_ratio']} images/s, x{figures['p99_ratio']} P99 latency")
    if study.overhead is not None:
        one = study.overhead
        parts.append(
            f"HTTP adds {one.added_ms:.2f} ms (P95 {one.added_p95_ms:.2f}) to "
            f"{one.service_ms:.1f} ms in the service and {one.encoding_ms:.2f} ms of encoding"
        )
    return "; ".join(parts)


def plot(study: Study, path: Path) -> None:
    """Throughput, P50 and P99 latency of every server at every load."""
    from matplotlib.figure import Figure

    runs: dict[str, dict[str, Summary]] = {}
    for load, server, one in study.runs():
        runs.setdefault(load, {})[server] = one
    servers = list(dict.fromkeys(server for by_server in runs.values() for server in by_server))
    width = 0.8 / len(servers)
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    for axes, (measure, label) in zip(figure.subplots(1, len(_PANELS)), _PANELS, strict=True):
        for place, server in enumerate(servers):
            there = [(at, getattr(one[server], measure)) for at, one in enumerate(runs.values()) if server in one]
            drawn = axes.bar(
                [at - 0.4 + place * width for at, _ in there], [value or 0.0 for _, value in there], width * 0.94,
                align="edge", label=server, color=_COLOURS.get(server, "#2a6f97"),
            )  # fmt: skip
            axes.bar_label(drawn, fmt="%.2g", padding=2, fontsize=8)
        axes.set_xticks(range(len(runs)), list(runs), fontsize=9, rotation=20)
        axes.set_title(label, fontsize=10.5, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    write_file(path, lambda target: figure.savefig(target, format="png", dpi=140))


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"
