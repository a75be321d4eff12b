"""Training: images a second of the training loop, against a bare forward-backward-step loop on the same network.

The network is the U-Net of `recipes/cifar10-ddpm-cpu.toml` (on a GPU the paper's at half its width), the pictures are
random. Both loops have the same initial weights, batch size, number format (bf16 autocast) and fused AdamW. They take
turns of a few steps in one run, in a process that keeps freed memory like training on a CPU. `fraction_of_bare_loop`
is the median over the turns of the bare loop's time divided by ours: the machine's drift falls on both.

Ours does what it does in every run: data order, gathering and flipping pictures, draws that do not depend on the number
of processes, gradient clipping, averaged weights, the learning rate schedule, checks and log rows. The bare loop leaves
all of that out (see `_bare_loop.py`). Neither samples, scores or writes checkpoints in its turns; how long a checkpoint
takes is measured apart, and so is each part of what ours adds.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from headrace.benchmarks._bare_loop import BareLoop
from headrace.benchmarks._progress import bars
from headrace.benchmarks.registry import BenchOptions
from headrace.benchmarks.throughput import describe_device
from headrace.engine.allocator import keep_freed_memory
from headrace.errors import HeadraceError
from headrace.files import write_file, write_json
from headrace.training.accelerator import make_accelerator
from headrace.training.checkpoint import Checkpoint, save_checkpoint
from headrace.training.data import ImageSet
from headrace.training.objectives.diffusion import DiffusionObjective
from headrace.training.tables.diffusion import DiffusionPhase
from headrace.training.trainer import RunSettings, Trainer

TURNS, QUICK_TURNS = 30, 5
STEPS, QUICK_STEPS = 5, 2
BATCH, QUICK_BATCH, GPU_BATCH = 32, 16, 128
IMAGES = 50_000
WIDTHS, GPU_WIDTHS = (32, 64, 64, 64), (64, 128, 128, 128)
CHECKPOINT_EVERY = 500


def run(options: BenchOptions, console: Console) -> Mapping[str, object]:
    """Times both loops. Raises `HeadraceError` when the device is not the one that training would take."""
    keep_freed_memory()
    on_gpu = not options.device.startswith("cpu")
    batch = GPU_BATCH if on_gpu else QUICK_BATCH if options.quick else BATCH
    phase = _phase(batch, GPU_WIDTHS if on_gpu else WIDTHS)
    with tempfile.TemporaryDirectory() as folder:
        ours, bare = _contestants(phase, options.device, Path(folder))
        turns, steps = (QUICK_TURNS, QUICK_STEPS) if options.quick else (TURNS, STEPS)
        seconds = _take_turns(ours, bare, turns, steps)
        added = _added(ours, 5 if options.quick else 20)
        checkpoint = _checkpoint_seconds(ours, Path(folder))
    figures = {
        **_fractions(seconds, batch, checkpoint),
        "added_ms_a_step": added,
        "checkpoint_seconds": round(checkpoint, 4),
        "batch_size": batch,
        "parameters": sum(parameter.numel() for parameter in ours.weights.parameters),
        "mixed_precision": phase.loop.mixed_precision,
        "turns": turns,
        "steps_a_turn": steps,
        "device": describe_device(options.device),
        "threads": torch.get_num_threads(),
    }
    console.print(_table(figures))
    if options.out is not None:
        _write(options.out, figures, seconds, batch)
        console.print(f"figures and plot in {options.out}", highlight=False)
    return figures


def _phase(batch: int, widths: tuple[int, ...]) -> DiffusionPhase:
    network = {
        "block_out_channels": list(widths),
        "layers_per_block": 1,
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
        "attention_head_dim": 32,
        "norm_num_groups": 16,
    }
    never = 10**9
    loop = {"steps": never, "batch_size": batch, "learning_rate": 1e-4, "mixed_precision": "bf16"}
    return DiffusionPhase.model_validate({"objective": "diffusion", "network": network, "loop": loop})


def _contestants(phase: DiffusionPhase, device: str, folder: Path) -> tuple[Trainer, BareLoop]:
    """Our loop and the bare one, with networks of the same weights."""
    accelerator = make_accelerator(phase.loop)
    if accelerator.device.type != torch.device(device).type:
        raise HeadraceError(
            f"training would run on {accelerator.device}, not on {device!r}",
            "Set --device, or ACCELERATE_USE_CPU=true for the CPU of a machine with a GPU",
        )
    torch.manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, 3, 32, 32), dtype=torch.uint8)
    objective = DiffusionObjective(phase, ImageSet(images, ("",) * IMAGES), folder)
    network = copy.deepcopy(objective.unet).to(accelerator.device)
    ours = Trainer(objective, phase.loop, RunSettings("bench", folder), accelerator)
    batch = objective.batch(torch.arange(phase.loop.batch_size).numpy())["images"]
    return ours, BareLoop(network, objective.process.solver, batch, torch.bfloat16)


def _take_turns(ours: Trainer, bare: BareLoop, turns: int, steps: int) -> dict[str, list[float]]:
    """Seconds of each turn of `steps` steps; the first turn of each loop is not counted."""

    def our_turn() -> None:
        for _ in range(steps):
            ours.step()
        ours.write_down()

    def bare_turn() -> None:
        for _ in range(steps):
            bare.step()

    calls = {"ours": our_turn, "bare": bare_turn}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    with bars() as show:
        for turn in range(turns + 1):
            for name in sorted(calls, reverse=turn % 2 == 0):  # who goes first changes, for the caches' sake
                took = _time(calls[name])
                if turn:
                    seconds[name].append(took / steps)
            show("turns", turn / turns)
    return seconds


def _time(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _added(ours: Trainer, repeats: int) -> dict[str, float]:
    """Milliseconds of each part that ours adds to a step, each timed alone: medians."""
    weights, accelerator = ours.weights, ours.accelerator
    for parameter in weights.parameters:
        parameter.grad = torch.full_like(parameter, 1e-6)

    def batches() -> None:
        list(ours.split.batches(ours.objective, 0, 0, accelerator.device))

    parts: dict[str, Callable[[], object]] = {
        "data and draws": batches,
        "clipping": lambda: accelerator.clip_grad_norm_(weights.parameters, ours.loop.clip_norm),
        "averaged weights": lambda: weights.average.step(weights.parameters),
    }
    medians = {name: statistics.median(_time(call) for _ in range(repeats)) for name, call in parts.items()}
    weights.optimizer.zero_grad(set_to_none=True)
    return {name: round(1000 * seconds, 3) for name, seconds in medians.items()}


def _checkpoint_seconds(ours: Trainer, folder: Path) -> float:
    checkpoint = Checkpoint(ours.progress, ours.weights.learned())
    return statistics.median(_time(lambda: save_checkpoint(folder / "saved", checkpoint, 1)) for _ in range(3))


def _fractions(seconds: Mapping[str, list[float]], batch: int, checkpoint: float) -> dict[str, Any]:
    ratios = sorted(bare / ours for ours, bare in zip(seconds["ours"], seconds["bare"], strict=True))
    low, _, high = statistics.quantiles(ratios, n=4)
    ours, bare = (statistics.median(seconds[name]) for name in ("ours", "bare"))
    fraction = statistics.median(ratios)
    return {
        "fraction_of_bare_loop": round(fraction, 4),
        "fraction_quartiles": [round(low, 4), round(high, 4)],
        "fraction_with_checkpoints": round(fraction / (1 + checkpoint / (CHECKPOINT_EVERY * ours)), 4),
        "images_per_second": round(batch / ours, 3),
        "images_per_second_bare": round(batch / bare, 3),
    }


def _table(figures: Mapping[str, Any]) -> Table:
    low, high = figures["fraction_quartiles"]
    table = Table("", "", title="Training loop against a bare one")
    rows = {
        "network": f"U-Net, 32 px, {figures['parameters'] / 1e6:.2f}M parameters",
        "batch, format, device": f"{figures['batch_size']}, {figures['mixed_precision']}, {figures['device']}",
        "headrace's loop": f"{figures['images_per_second']:.2f} images/s",
        "bare loop": f"{figures['images_per_second_bare']:.2f} images/s",
        "of the bare loop": f"{figures['fraction_of_bare_loop']:.1%}, median of {figures['turns']} turns",
        "half of the turns": f"{low:.1%} to {high:.1%}",
        f"with a checkpoint every {CHECKPOINT_EVERY} steps": f"{figures['fraction_with_checkpoints']:.1%}",
        **{f"ours adds to a step: {name}": f"{ms:.1f} ms" for name, ms in figures["added_ms_a_step"].items()},
        "left out by the bare loop": "order, flips, clipping, averages,\nschedule, checks, log, checkpoints",
    }
    for row in rows.items():
        table.add_row(*row)
    return table


def _write(out: Path, figures: Mapping[str, Any], seconds: Mapping[str, list[float]], batch: int) -> None:
    """training.json and training.png, the turns of both loops, in `out`."""
    write_json(out / "training.json", figures)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.add_subplot()
    names = {"bare": "bare loop", "ours": "headrace's loop"}
    for (name, label), colour in zip(names.items(), ("#b9c6d0", "#2a6f97"), strict=True):
        rates = [batch / one for one in seconds[name]]
        axes.plot(range(1, len(rates) + 1), rates, marker="o", markersize=3, color=colour, label=label)
    axes.set(xlabel=f"turn of {figures['steps_a_turn']} steps", ylabel="images per second", ylim=(0, None))
    axes.set_title(f"{figures['fraction_of_bare_loop']:.1%} of the bare loop ({figures['device']})", fontsize="medium")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    write_file(out / "training.png", lambda path: figure.savefig(path, dpi=150))
