"""Multistage: parameters and work of the paper's architectures, work by stage, and images a second against one decoder.

Speed is of networks with random weights, under requests that come one after another: the unified network, the
multistage one whose calls span stages and share the encoder, and the same with a call for each stage. All three take
small turns in one run. On a CPU the networks are the paper's at a fraction of its widths and depth, as the title says.
`--data` is an artefact of `headrace calibrate stages`; without one the boundaries are the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from rich.console import Console

from headrace.benchmarks._multistage import display
from headrace.benchmarks._multistage.architectures import (
    CHOSEN,
    CHOSEN_LDM,
    TABLES,
    UNIFIED,
    Architecture,
    Line,
    by_equation_23,
    compare,
)
from headrace.benchmarks._multistage.sampling import DPM, rows_by_sampling
from headrace.benchmarks._multistage.speed import APART, SHARED, Service, measure
from headrace.benchmarks._multistage.speed import UNIFIED as ONE_DECODER
from headrace.benchmarks.registry import BenchOptions
from headrace.benchmarks.throughput import describe_device
from headrace.errors import ArtefactError
from headrace.files import write_json
from headrace.techniques.multistage.artefact import StagesArtefact
from headrace.techniques.multistage.schedule import PAPER, Stages

# Encoder width, ResNet blocks a level and requests of the measured networks.
_QUICK, _CPU, _GPU = (32, 1, 10), (64, 2, 24), (128, 8, 96)
_NARROWEST = 8  # two groups of a norm


def run(options: BenchOptions, console: Console) -> Mapping[str, object]:
    """Counts, then measures. Raises `ArtefactError` for a file that is none, or not of three stages."""
    stages, source = _stages(options)
    rows = rows_by_sampling(stages)
    lines = [line for one in _chosen(options.quick) for line in compare(one, _rows(one, rows[DPM]))]
    console.print(display.cost_table(lines))
    if not options.quick:
        console.print(display.equation_table(_equation()))
    cost = CHOSEN.cost()
    averages = {name: cost.average_gmac(counts) for name, counts in rows.items()}
    console.print(display.sampling_table(rows, averages))
    console.print(f"boundaries: {', '.join(f'{cut:.3f}' for cut in stages.boundaries)} ({source})")
    services, setting = _speed(stages, options)
    console.print(display.speed_table(services, f"{setting}; {describe_device(options.device)}"))
    figures = _figures(stages, lines, averages, services) | {
        "boundaries_from": source, "evaluations_by_stage": {name: list(counts) for name, counts in rows.items()},
        "measured": setting, "device": describe_device(options.device), "threads": torch.get_num_threads(),
    }  # fmt: skip
    if options.out is not None:
        details = figures | {"lines": [vars(line) for line in lines]}
        write_json(options.out / "multistage.json", details, indent=1)
        display.plot(lines, services, options.out / "multistage.png")
    return figures


def _stages(options: BenchOptions) -> tuple[Stages, str]:
    if options.data is None:
        return PAPER[3], "the paper's"
    artefact = StagesArtefact.load(options.data)
    if artefact.stages.count != 3:
        raise ArtefactError(
            f"{options.data} divides time into {artefact.stages.count} stages, and the measured network has 3 decoders",
            "Calibrate three stages",
        )
    return artefact.stages, f"{artefact.method} on {artefact.data}"


def _chosen(quick: bool) -> tuple[Architecture, ...]:
    return (UNIFIED, CHOSEN, CHOSEN_LDM) if quick else TABLES


def _rows(architecture: Architecture, three: tuple[int, ...]) -> tuple[int, ...]:
    """Evaluations of a 20-NFE DPM-Solver by stage: three stages as asked for, other numbers as in table 7."""
    count = len(architecture.decoders)
    return three if count == 3 else rows_by_sampling(PAPER[count])[DPM]


def _equation() -> dict[str, tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]]:
    found = {}
    for architecture in (one for one in TABLES if one.name.startswith("table 7")):
        parameters, widths = by_equation_23(PAPER[len(architecture.decoders)])
        found[architecture.name] = parameters, tuple(millions for millions, _ in architecture.paper), widths
    return found


def _speed(stages: Stages, options: BenchOptions) -> tuple[dict[str, Service], str]:
    on_gpu = options.device.startswith("cuda")
    encoder, layers, requests = _QUICK if options.quick else _GPU if on_gpu else _CPU
    small = Architecture("measured", encoder, (), (), (0, 0))
    unet = small.unet | {"layers_per_block": layers, "norm_num_groups": min(32, encoder // 4)}
    decoders = [max(_NARROWEST, width * encoder // CHOSEN.encoder) for width in CHOSEN.decoders]
    setting = f"encoder {encoder}, decoders {'/'.join(map(str, decoders))}, {layers} blocks a level"
    return measure(unet, decoders, stages, requests, options.device), setting


def _figures(
    stages: Stages, lines: list[Line], averages: Mapping[str, float], services: Mapping[str, Service]
) -> dict[str, object]:
    own = {line.part: line.ours for line in lines if line.architecture == CHOSEN.name}
    own["unified"] = next(line.ours for line in lines if line.architecture == UNIFIED.name)
    speeds = {name: one.images_per_second for name, one in services.items()}
    return {
        "t1": stages.boundaries[0],
        "t2": stages.boundaries[1],
        "gmac": {part: round(gmac, 2) for part, (_, gmac) in own.items() if part != "total"}
        | {name: round(average, 2) for name, average in averages.items()},
        "parameters": {part: round(millions * 1e6) for part, (millions, _) in own.items()},
        "images_per_second_ratio": round(speeds[SHARED] / speeds[ONE_DECODER], 3),
        "sharing_gain": round(speeds[SHARED] / speeds[APART], 3),
        "outside_5_percent": [f"{line.architecture}, {line.part}" for line in lines if not line.within],
    }
