"""Tables and the plot of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from headrace.benchmarks._multistage.architectures import Line
from headrace.benchmarks._multistage.sampling import PAPER_AVERAGE
from headrace.benchmarks._multistage.speed import UNIFIED, Service
from headrace.files import write_file


def cost_table(lines: Sequence[Line]) -> Table:
    """A line a part of an architecture, beside the paper's."""
    table = Table(
        "architecture", "part", "parameters, M", "paper", "GMAC", "paper", "within 5%",
        title="Parameters and GMAC a row (attention not counted, as in the paper)",
    )  # fmt: skip
    for line in lines:
        (parameters, gmac), (paper_parameters, paper_gmac) = line.ours, line.paper
        shown = ", ".join(
            f"{name} {error:+.1%}"
            for name, error in zip(("parameters", "GMAC"), line.errors, strict=True)
            if abs(error) > 0.05
        )
        table.add_row(
            line.architecture, line.part, f"{parameters:.1f}", f"{paper_parameters:g}",
            f"{gmac:.2f}", f"{paper_gmac:g}", f"no: {shown}" if shown else "yes",
        )  # fmt: skip
    return table


def sampling_table(rows: Mapping[str, Sequence[int]], averages: Mapping[str, float]) -> Table:
    """A line a sampling: evaluations in each stage, and the GMAC of a mean one."""
    table = Table("sampling", "evaluations by stage", "mean GMAC", "paper", title="Work of a mean evaluation")
    for name, counts in rows.items():
        table.add_row(name, "/".join(map(str, counts)), f"{averages[name]:.2f}", f"{PAPER_AVERAGE[name]:g}")
    return table


def equation_table(lines: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float]]]) -> Table:
    """What equation 23 gives for other numbers of stages, beside table 7: parameters, and widths."""
    table = Table("stages", "parameters, M", "table 7", "widths", title="Equation 23, from 169M, 108M and 47M")
    for name, (parameters, paper, widths) in lines.items():
        table.add_row(
            name,
            " / ".join(f"{value:.0f}" for value in parameters),
            " / ".join(f"{value:g}" for value in paper),
            " / ".join(f"{value:.0f}" for value in widths),
        )
    return table


def speed_table(services: Mapping[str, Service], title: str) -> Table:
    """A line a network."""
    table = Table("", "images/s", "over unified", "rows a call", "stages a call", title=title)
    base = services[UNIFIED].images_per_second
    for name, one in services.items():
        table.add_row(
            name, f"{one.images_per_second:.3f}", f"x{one.images_per_second / base:.2f}",
            f"{one.rows_per_call:.1f}", f"{one.stages_per_call:.1f}",
        )  # fmt: skip
    return table


def plot(lines: Sequence[Line], services: Mapping[str, Service], path: Path) -> None:
    """GMAC of each part here against the paper's, and images a second."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0.5, 120], [0.5, 120], color="#888888", linewidth=1)
    for position, name in enumerate(("shared", "stage", "total")):
        points = [line for line in lines if line.part.startswith(name)]
        left.scatter(
            [line.paper[1] for line in points], [line.ours[1] for line in points], label=name, color=f"C{position}"
        )
    left.set(xscale="log", yscale="log", xlabel="GMAC a row, the paper", ylabel="here")
    left.legend()
    right.barh(list(services), [one.images_per_second for one in services.values()], color="#2a6f97")
    right.invert_yaxis()
    right.set(xlabel="images/s")
    write_file(path, lambda file: figure.savefig(file, dpi=120, format="png"))
