"""Tables and the plot of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.table import Table

from headrace.benchmarks._fusebatch.networks import Configuration
from headrace.benchmarks._fusebatch.size import Size
from headrace.benchmarks._fusebatch.speed import VANILLA, Speed
from headrace.files import write_file

NAMES = {
    VANILLA: "vanilla", "k2": "FB-UNet, K=2", "k4": "FB-UNet, K=4", "tfs": "TFS",
    "fbae_k2": "FB-AE, K=2", "fbae_k4": "FB-AE, K=4", "fbunet_k2": "FB-UNet, K=2",
}  # fmt: skip


def table(configuration: Configuration, size: Size, speed: Speed) -> Table:
    """A line a variant. With an autoencoder, what the speeds would be at the paper's 1000 steps stands beside them."""
    at_1000 = speed.speedups_at(1000) if configuration.autoencoder else {}
    made = Table(title=f"{configuration.name}: {size.parameters / 1e6:.1f}M, {size.macs / 1e9:.2f} GMAC a row")
    if at_1000:
        made.caption = "work: of an image, of FB-AE in the decoder; FB-AE's parameters are the autoencoder's"
    columns = ["", "parameters", "work", "images/s", f"{speed.load.steps} steps", "1000 steps", "paper"]
    for name in columns if at_1000 else [name for name in columns if name != "1000 steps"]:
        made.add_column(name, justify="right" if name else "left")
    for name, seconds in speed.seconds.items():
        factor = name[-2:]
        fused_autoencoder = name.startswith("fbae")
        overhead = (size.autoencoder_overhead if fused_autoencoder else size.overhead).get(factor)
        # Of FB-AE the decoder's: the latent network's is 1/K exactly.
        ratio = (size.decoder_ratios if fused_autoencoder else size.mac_ratios).get(factor)
        speeds = [speed.speedups, at_1000, configuration.paper] if at_1000 else [speed.speedups, configuration.paper]
        made.add_row(
            NAMES[name],
            "" if overhead is None else f"+{overhead / 1e3:.1f}K",
            "" if ratio is None else f"{ratio:.1%}",
            f"{speed.load.images / seconds:.3g}",
            *(f"x{one[name]:.2f}" if name in one else "" for one in speeds),
        )
    return made


def parts_table(shares: Mapping[str, Mapping[str, float]]) -> Table:
    """Of an evaluation at K = 4, by configuration."""
    names = list(next(iter(shares.values())))
    made = Table("time of an evaluation at K=4", *names, title="what keeps K=4 from four times the speed")
    for configuration, found in shares.items():
        made.add_row(configuration, *(f"{found[name]:.1%}" for name in names))
    return made


def plot(speeds: Mapping[str, tuple[Configuration, Speed]], path: Path) -> None:
    """Measured speed over vanilla beside the paper's, a bar a variant."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(speeds), 4.0), layout="constrained")
    for number, (title, (configuration, speed)) in enumerate(speeds.items(), start=1):
        axes = figure.add_subplot(1, len(speeds), number)
        names = list(speed.speedups)
        places, measured = range(len(names)), [speed.speedups[name] for name in names]
        axes.bar([place - 0.2 for place in places], measured, 0.4, color="#d00000", label="measured")
        paper = [configuration.paper[name] for name in names]
        axes.bar([place + 0.2 for place in places], paper, 0.4, color="#bbbbbb", label="paper")
        axes.set_xticks(list(places), [NAMES[name].replace(", ", "\n").replace(" in ", "\nin ") for name in names])
        axes.set_title(title, fontsize=10)
        axes.set_ylabel("images/s over vanilla")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=8)
    write_file(path, lambda target: figure.savefig(target, dpi=150))
