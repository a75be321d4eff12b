"""Tables and plots of what multistage-study.sh measured.

    python recipes/multistage-study.py FOLDER [VARIANT ...]

Writes FOLDER/results.csv, a line for each evaluated model, FOLDER/results.png and FOLDER/pictures.png, and prints a
line for each variant: its last model, and the training it needed to come as near as the unified network's last one.
Variants are shown in the order given; all that are there where none is named.
"""

import csv
import json
import sys
from pathlib import Path

from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

METRICS = ("frechet_distance", "spatial_frechet_distance", "precision", "recall")
LOSSES = ("held_out_loss", *(f"held_out_loss_{stage}" for stage in range(5)))
FIELDS = ("variant", "step", "training_tmac", *METRICS, *LOSSES)
Line = dict[str, str | float]


def measured(folder: Path, variant: str) -> list[Line]:
    """What is known of a variant's evaluated models, the earliest first."""
    log = folder / variant / "run" / "diffusion" / "log.csv"
    if not log.exists():
        return []
    with log.open(newline="") as file:
        steps = {int(row["step"]): row for row in csv.DictReader(file)}
    lines = []
    for report in sorted((folder / variant / "reports").glob("*.json")):
        step = int(report.stem)
        figures = {one["metric"]: one["value"] for one in json.loads(report.read_text())["figures"]}
        known = {name: float(steps[step][name]) for name in ("training_tmac", *LOSSES) if steps[step].get(name)}
        lines.append({"variant": variant, "step": step, **known, **{name: figures.get(name) for name in METRICS}})
    return lines


def share_to_reach(lines: list[Line], target: Line, metric: str) -> str:
    """Training of the first model that is as near as the target, as a share of the target's."""
    work = next((line["training_tmac"] for line in lines if line[metric] <= target[metric]), None)
    return "not reached" if work is None else f"{work / target['training_tmac']:.0%}"


def write(folder: Path, found: dict[str, list[Line]]) -> None:
    """The table as CSV."""
    with (folder / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, restval="", lineterminator="\n")
        writer.writeheader()
        for lines in found.values():
            for line in lines:
                writer.writerow({name: f"{one:.6g}" if isinstance(one, float) else one for name, one in line.items()})


def show(found: dict[str, list[Line]]) -> None:
    """The table for people; FD is the Frechet distance."""
    names = ("variant", "steps", "TMAC", "loss", "FD", "spatial FD", "recall", "to unified FD", "spatial")
    print("{:16}{:>7}{:>8}{:>9}{:>8}{:>12}{:>8}{:>15}{:>13}".format(*names))
    target = found["unified"][-1] if "unified" in found else None
    for variant, lines in found.items():
        last = lines[-1]
        shares = ["", ""] if target is None else [share_to_reach(lines, target, metric) for metric in METRICS[:2]]
        print(
            f"{variant:16}{last['step']:7}{last['training_tmac']:8.1f}{last.get('held_out_loss', float('nan')):9.5f}"
            f"{last['frechet_distance']:8.3f}{last['spatial_frechet_distance']:12.3f}{last['recall']:8.3f}"
            f"{shares[0]:>15}{shares[1]:>13}"
        )


def plot(folder: Path, found: dict[str, list[Line]]) -> None:
    """Both distances of the last models as bars, and every variant's distance on its way."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    bars = figure.subplots(1, 3, width_ratios=(1, 1, 1.3))
    bars[2].set_prop_cycle(color=colormaps["tab20"].colors)  # ten colours are too few
    for axes, metric in zip(bars[:2], METRICS[:2], strict=True):
        last = {variant: lines[-1][metric] for variant, lines in found.items()}
        shades = ["#888888" if variant == "unified" else "#1f5fa8" for variant in last]
        axes.bar_label(axes.barh(list(last), list(last.values()), color=shades), fmt="%.3g", padding=3, fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel(metric.replace("_", " ") + ", last model")
        axes.margins(x=0.15)
    bars[1].set_yticklabels([])
    for variant, lines in found.items():
        work = [line["training_tmac"] for line in lines]
        bars[2].plot(work, [line[METRICS[0]] for line in lines], "o-", label=variant, linewidth=1.2, markersize=4)
    bars[2].set_xlabel("10$^{12}$ multiply-accumulates of training")
    bars[2].set_ylabel(METRICS[0].replace("_", " "))
    bars[2].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    for axes in bars:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3, axis="x")
    figure.savefig(folder / "results.png", dpi=110)


def show_pictures(folder: Path, found: dict[str, list[Line]]) -> None:
    """The first ten pictures of each variant's last samples: the same seeds, one variant a row."""
    figure = Figure(figsize=(9, 0.75 * len(found) + 0.2), layout="constrained")
    for axes, variant in zip(figure.subplots(len(found), 1, squeeze=False)[:, 0], found, strict=True):
        samples = sorted((folder / variant / "run" / "diffusion" / "samples").glob("*.png"))
        with Image.open(samples[-1]) as grid:
            row = grid.crop((0, 0, grid.width, grid.width // 10))
        axes.imshow(row.resize((2 * row.width, 2 * row.height), Image.Resampling.NEAREST))
        axes.set_ylabel(variant, rotation=0, ha="right", va="center")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    figure.savefig(folder / "pictures.png", dpi=110)


def main(folder: Path, variants: list[str]) -> None:
    """Everything, of what is there by now."""
    variants = variants or sorted(reports.parent.name for reports in folder.glob("*/reports"))
    found = {variant: lines for variant in variants if (lines := measured(folder, variant))}
    if not found:
        sys.exit(f"nothing was measured in {folder} yet: run multistage-study.sh {folder}")
    write(folder, found)
    plot(folder, found)
    show_pictures(folder, found)
    show(found)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:])
