"""Images per second on a mixed load: the engine against diffusers one by one, and against diffusers in equal groups.

The load is `_mixed_load`; the contestants take small turns, always the one that is least far, so a slow spell of the
machine falls on all of them. Loading, warming up and building the load are outside the timing; everything from text
encoding to uint8 pixels is inside. Ratios are medians over the repeats.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from headrace.benchmarks._contestants import Diffusers, Pixels, engine_turns, groups, pixel_difference, race
from headrace.benchmarks._mixed_load import SOLVERS, mixed_load
from headrace.benchmarks._progress import bars
from headrace.benchmarks.registry import BenchOptions
from headrace.engine import Engine, EngineSettings
from headrace.files import write_file, write_json
from headrace.request import Request

REQUESTS, REPEATS = 64, 3
QUICK_REQUESTS, QUICK_REPEATS = 24, 1
OVERHEAD_ROWS = 8
SLOTS = 32
SEQUENTIAL, GROUPED, ENGINE = "diffusers, one by one", "diffusers, equal settings batched", "headrace"


def run(options: BenchOptions, console: Console) -> Mapping[str, object]:
    """Runs the comparison. Raises `ModelError` for a model that cannot be loaded or takes no prompts."""
    engine = Engine.from_pretrained(options.model, device=options.device, slots=SLOTS)
    diffusers = Diffusers(options.model, options.device, largest_batch=SLOTS)
    requests = mixed_load(QUICK_REQUESTS if options.quick else REQUESTS, engine.pipeline)
    warm_up(engine, diffusers, requests)
    repeats = [
        _compare(engine, diffusers, requests, options.device)
        for _ in range(QUICK_REPEATS if options.quick else REPEATS)
    ]
    figures = {
        **_ratios([seconds for seconds, _ in repeats], len(requests)),
        "speedup_vs_batch": equal_settings(engine, diffusers, options.device),
        "overhead_fraction": overhead(engine, requests),
        **repeats[-1][1],
        "requests": len(requests),
        "groups": len(groups(requests, SLOTS)),
        "repeats": len(repeats),
        "device": describe_device(options.device),
        "threads": torch.get_num_threads(),
        "model": engine.pipeline.name,
    }
    console.print(_table(figures))
    if options.out is not None:
        _write(options.out, figures)
    return figures


def warm_up(engine: Engine, diffusers: Diffusers, requests: Sequence[Request]) -> None:
    """Every size and solver once, in few steps, on both sides; of another prompt, so that no text is cached."""
    brief = {"steps": 2, "prompt": "warming up"}
    sizes = {(request.height, request.width): request for request in requests}
    short = [request.model_copy(update=brief) for request in sizes.values()]
    short += [short[0].model_copy(update={"solver": solver}) for solver in SOLVERS]
    engine.generate(short)
    engine.generate([request.model_copy(update=brief) for request in requests])
    for request in short:
        diffusers.call([request])


def _compare(
    engine: Engine, diffusers: Diffusers, requests: Sequence[Request], device: str
) -> tuple[dict[str, float], dict[str, Any]]:
    """Seconds of each contestant, and how far the engine's pictures are from those of diffusers one by one."""
    pictures: dict[str, dict[int, Pixels]] = {name: {} for name in (SEQUENTIAL, GROUPED, ENGINE)}
    turns = {
        SEQUENTIAL: diffusers.one_by_one(requests, pictures[SEQUENTIAL]),
        GROUPED: diffusers.grouped(requests, pictures[GROUPED]),
        ENGINE: engine_turns(engine, requests, pictures[ENGINE]),
    }
    with bars() as show:
        seconds = race(turns, device, show)
    return seconds, pixel_difference(pictures[ENGINE], pictures[SEQUENTIAL])


def equal_settings(engine: Engine, diffusers: Diffusers, device: str) -> float:
    """All settings equal, where diffusers can batch everything: its time over the engine's."""
    chosen = [
        request.model_copy(update={"solver": "ddim", "steps": 20, "guidance_scale": 4.0, "height": None, "width": None})
        for request in mixed_load(SLOTS // 2, engine.pipeline)
    ]
    turns = {GROUPED: diffusers.grouped(chosen, {}), ENGINE: engine_turns(engine, chosen, {})}
    with bars() as show:
        seconds = race(turns, device, show)
    return round(seconds[GROUPED] / seconds[ENGINE], 4)


def _ratios(repeats: Sequence[Mapping[str, float]], images: int) -> dict[str, float]:
    """Speed-ups and images a second, medians over the repeats."""

    def median(values: list[float]) -> float:
        return round(statistics.median(values), 4)

    return {
        "speedup_vs_sequential": median([seconds[SEQUENTIAL] / seconds[ENGINE] for seconds in repeats]),
        "speedup_vs_grouped": median([seconds[GROUPED] / seconds[ENGINE] for seconds in repeats]),
        "images_per_second_sequential": median([images / seconds[SEQUENTIAL] for seconds in repeats]),
        "images_per_second_grouped": median([images / seconds[GROUPED] for seconds in repeats]),
        "images_per_second_engine": median([images / seconds[ENGINE] for seconds in repeats]),
    }


def overhead(engine: Engine, requests: Sequence[Request], rows: int = OVERHEAD_ROWS) -> float:
    """Share of the engine's time outside network, decoder and text encoder calls, with `rows` requests resident.

    The requests' solvers and seeds, at one size and one step count and without guidance, so that every round is one
    network call of exactly `rows` rows.
    """
    alike = {"steps": 20, "guidance_scale": 1.0, "height": None, "width": None}
    chosen = [request.model_copy(update=alike) for request in requests if request.solver != "heun"][:rows]
    settings = EngineSettings(slots=rows, synchronize_timings=True)
    small = Engine(engine.pipeline, settings)
    small.generate(chosen)
    small.timings.reset()
    small.generate(chosen)
    return round(small.timings.overhead_fraction, 4)


def describe_device(device: str) -> str:
    """A device in words: the GPU's name, or the processor's kind and threads."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{device}, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"


def _table(figures: Mapping[str, Any]) -> Table:
    title = f"{figures['requests']} mixed requests on {figures['model']} ({figures['device']})"
    table = Table("", "images/s", "headrace is faster by", title=title)
    table.add_row(
        SEQUENTIAL, f"{figures['images_per_second_sequential']:.2f}", f"x{figures['speedup_vs_sequential']:.2f}"
    )
    grouped = f"{GROUPED} ({figures['groups']} calls)"
    table.add_row(grouped, f"{figures['images_per_second_grouped']:.2f}", f"x{figures['speedup_vs_grouped']:.2f}")
    table.add_row(ENGINE, f"{figures['images_per_second_engine']:.2f}", "")
    table.caption = (
        f"largest pixel difference {figures['max_pixel_difference']} of 255, "
        f"{figures['pixel_share_within_1']:.2%} within 1; "
        f"overhead at {OVERHEAD_ROWS} rows {figures['overhead_fraction']:.1%}; "
        f"where all settings are equal x{figures['speedup_vs_batch']:.2f} over diffusers' batch"
    )
    return table


def _write(out: Path, figures: Mapping[str, Any]) -> None:
    """throughput.json and a bar chart throughput.png in `out`."""
    write_json(out / "throughput.json", figures)
    from matplotlib.figure import Figure

    names = [SEQUENTIAL, GROUPED, ENGINE]
    rates = [figures[f"images_per_second_{side}"] for side in ("sequential", "grouped", "engine")]
    figure = Figure(figsize=(7, 2.4), layout="constrained")
    axes = figure.add_subplot()
    bars_drawn = axes.barh(names[::-1], rates[::-1], color=["#2a6f97", "#b9c6d0", "#b9c6d0"])
    axes.bar_label(bars_drawn, fmt="%.2f", padding=4)
    axes.set_xlabel(f"images per second, {figures['requests']} mixed requests, {figures['device']}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    write_file(out / "throughput.png", lambda path: figure.savefig(path, dpi=150))
