"""FuseBatch: K images in one pass, on the paper's networks with random weights: parameters, operations, images/s.

Vanilla sampling, FB-UNet at K = 2 and K = 4 and TFS (half of the steps at K = 4, a quarter each at 2 and 1) make the
same images, each on an engine of its own, in turns, so that a slow spell of the machine falls on all; FB-AE at K = 2
and 4 and FB-UNet in latent space likewise, from noise to pixels. The latter's speed at other numbers of steps than were
run follows from the times of denoising and of decoding. No call has more evaluations than serve vanilla best.
Operations are counted as the papers do: without attention's products of queries, keys and values. The last table says
where the time of an evaluation at K = 4 goes: what is not the body runs for every image.

A quick run: CIFAR-10's network, and a latent one of less than half the width at 64 px.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

import torch
from rich.console import Console

from headrace.benchmarks._fusebatch.display import parts_table, plot, table
from headrace.benchmarks._fusebatch.networks import (
    CELEBA,
    CELEBA_HQ,
    CIFAR10,
    FLOW_MATCHING,
    SMALL_LATENT,
    Configuration,
    latent_pipelines,
    pixel_pipeline,
)
from headrace.benchmarks._fusebatch.parts import measure_parts
from headrace.benchmarks._fusebatch.size import Size, measure_size
from headrace.benchmarks._fusebatch.speed import Load, Speed, latent_speed, pixel_speed
from headrace.benchmarks.registry import BenchOptions
from headrace.benchmarks.throughput import describe_device
from headrace.files import write_json

# By configuration: on a CPU, and on an accelerator. TFS is at its exact shares where steps are a multiple of four.
# Calls have as many evaluations as serve vanilla best on a CPU: CelebA's takes 198 ms a row in calls of 4, 228 ms in
# calls of 32. At K = 4 there is a quarter of the evaluations, so there are more images than fill vanilla's calls.
LOADS = {
    CIFAR10.name: (Load(64, 8, 32), Load(1024, 20, 1024)),
    FLOW_MATCHING.name: (Load(32, 4, 8), Load(512, 20, 512)),
    CELEBA.name: (Load(32, 4, 4), Load(512, 20, 512)),
    CELEBA_HQ.name: (Load(16, 2, 4), Load(64, 20, 64)),
    SMALL_LATENT.name: (Load(32, 4, 8), Load(256, 20, 256)),
}
QUICK_LOADS = {CIFAR10.name: Load(32, 4, 32), SMALL_LATENT.name: Load(32, 4, 8)}
FULL = CIFAR10, FLOW_MATCHING, CELEBA, CELEBA_HQ
REPEATS = 3


def run(options: BenchOptions, console: Console) -> Mapping[str, object]:
    """Measures every configuration. `options` gives the device, `quick` and the folder for the plot."""
    on_gpu = options.device.startswith("cuda")
    dtype = torch.bfloat16 if on_gpu else torch.float32
    sizes: dict[str, Size] = {}
    speeds: dict[str, tuple[Configuration, Speed]] = {}
    shares: dict[str, dict[str, float]] = {}
    for configuration in (CIFAR10, SMALL_LATENT) if options.quick else FULL:
        load = _load(configuration, options.quick, on_gpu)
        sizes[configuration.name] = measure_size(configuration)
        if configuration.autoencoder:
            speed = latent_speed(latent_pipelines(configuration, options.device, dtype), load)
        else:
            pipeline = pixel_pipeline(configuration, (1, 2, 4), options.device, dtype)
            speed = pixel_speed(pipeline, load)
            shares[configuration.name] = measure_parts(pipeline, 4, load.images, REPEATS)
            del pipeline
        gc.collect()
        speeds[configuration.name] = configuration, speed
        console.print(table(configuration, sizes[configuration.name], speed))
    console.print(parts_table(shares))
    figures = _figures(sizes, speeds, shares) | {
        "device": describe_device(options.device),
        "threads": torch.get_num_threads(),
    }
    if options.out is not None:
        write_json(options.out / "fusebatch.json", figures)
        plot(speeds, options.out / "fusebatch.png")
    return figures


def _load(configuration: Configuration, quick: bool, on_gpu: bool) -> Load:
    on_cpu, accelerated = LOADS[configuration.name]
    return accelerated if on_gpu else QUICK_LOADS[configuration.name] if quick else on_cpu


def _figures(
    sizes: Mapping[str, Size], speeds: Mapping[str, tuple[Configuration, Speed]], shares: Mapping[str, Any]
) -> dict[str, Any]:
    """CIFAR-10's network at the top, with FB-AE's speed; the rest by configuration."""
    rounded = {
        name: {variant: round(value, 4) for variant, value in speed.speedups.items()}
        for name, (_, speed) in speeds.items()
    }
    latent = next(name for name, (configuration, _) in speeds.items() if configuration.autoencoder)
    fused_autoencoder = {name: value for name, value in rounded[latent].items() if name.startswith("fbae")}
    first = sizes[CIFAR10.name]
    return {
        "overhead_parameters": first.overhead,
        "mac_ratio": {name: round(value, 5) for name, value in first.mac_ratios.items()},
        "speedup": rounded[CIFAR10.name] | fused_autoencoder,
        "paper": {name: configuration.paper for name, (configuration, _) in speeds.items()},
        "configurations": {
            name: {
                **vars(sizes[name]),
                "speedup": rounded[name],
                "speedup_1000_steps": speed.speedups_at(1000),
                "seconds": speed.seconds,
                "decoding_seconds": speed.decoding,
                **vars(speed.load),
            }
            for name, (_, speed) in speeds.items()
        },
        "shares_at_k4": {name: {part: round(value, 4) for part, value in one.items()} for name, one in shares.items()},
    }
