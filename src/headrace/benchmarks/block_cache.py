"""Block caching: speed on Stable Diffusion 1.5's network, quality beside its peers, and a mixed continuous batch.

Three measurements, each with its contestants taking turns, so that a slow spell of the machine falls on all of them:

1. One guided request on SD 1.5's U-Net (859.5M parameters, random weights; 256 px on a CPU, 512 px on a GPU, 64 px in a
   quick run), every spatial transformer evaluated in the rhythm of the paper's Fig. 4: 5 rows of 20; and the ResNet
   blocks in the same rhythm too.
2. On a trained model, DPM++ 2M in 20 steps: PSNR and SSIM to the uncached pictures and, with `--data`, recall of the
   captions and Frechet distance, against latency: thresholds delta from 0 to 1, scale-shift trained for four minutes a
   threshold (not in a quick run), ResNet blocks in place of transformers at equal saving (the paper's Fig. 8), all
   blocks together in the rows that displace the latents least, DeepCache, T-GATE, attention broadcast, and fewer
   steps.
3. 16 requests of different steps, guidance scales and thresholds in one continuous batch, with and without the cache.

The paper's figures are of LDM-512 (900M parameters) on an A100.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from headrace.benchmarks._block_cache.adjusted import train_scale_shift
from headrace.benchmarks._block_cache.batch import MixedBatch, measure_batch
from headrace.benchmarks._block_cache.display import batch_line, plot, quality_table, speed_table
from headrace.benchmarks._block_cache.peer import BlockCache
from headrace.benchmarks._block_cache.quality import Comparison, Contestant, Quality, Reference, judge
from headrace.benchmarks._block_cache.speed import Speed, measure_speed
from headrace.benchmarks._mixed_load import PROMPTS
from headrace.benchmarks._peers import AttentionBroadcast, DeepCache, FewerSteps, TGate, Uncached
from headrace.benchmarks._sd15 import FACTOR, sd15_unet, text_embeddings
from headrace.benchmarks.embedded import EXCLUDED, spread_indices
from headrace.benchmarks.registry import BenchOptions
from headrace.benchmarks.throughput import describe_device
from headrace.engine import Engine
from headrace.engine.allocator import keep_freed_memory
from headrace.evaluation.extractors.registry import ExtractorOptions, build_extractors
from headrace.files import write_file
from headrace.models.pipelines.base import Pipeline
from headrace.models.pipelines.loading import load
from headrace.models.row_call import Adjustment
from headrace.plan import Plan
from headrace.request import Request
from headrace.techniques.block_caching.artefact import Choice, choose
from headrace.techniques.block_caching.calibrate import Profile, measure_work, profile
from headrace.techniques.block_caching.displacement import Displacement, measure_displacement
from headrace.techniques.block_caching.schedule import saving
from headrace.training.data import load_images
from headrace.training.tables.data import DataTable

SOLVER, STEPS, GUIDANCE = "dpm++2m", 20, 5.0
DELTAS, QUICK_DELTAS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0), (0.0, 0.5)
HEADLINE_DELTA = 0.5  # the paper's sweet spot, section 4.2
FEWER, QUICK_FEWER = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4), (0.7, 0.5)
PICTURES, QUICK_PICTURES, BATCH = 512, 8, 16
TOGETHER_SAVINGS, QUICK_TOGETHER_SAVINGS = (0.1, 0.18, 0.27, 0.36, 0.45, 0.54), (0.27, 0.45)
SCALE_SHIFT_DELTAS, SCALE_SHIFT_MINUTES = (0.2, 0.5), 4.0  # not in a quick run
CALIBRATION_PROMPTS, SEEDS, DISPLACED_IMAGES = 32, 2, 8
EXTRACTOR = "cifar10-classifier"
SPEED = [("dpm++2m", 20), ("ddim", 20), ("dpm++2m", 50), ("ddim", 50)]
QUICK_SPEED = [("dpm++2m", 20)]


def run(options: BenchOptions, console: Console) -> Mapping[str, object]:
    """Runs the three measurements. Raises `ModelError` for a model that cannot be loaded, `DataError` for the data."""
    speeds = _speed(options)
    console.print(speed_table(speeds, describe_device(options.device), _pixels(options)))
    pipeline = load(options.model, device=options.device)
    found, displacement = _profile(pipeline, options)
    adjusted = {} if options.quick else _adjusted(pipeline, found)
    qualities = _quality(pipeline, _contestants(found, displacement, options.quick, adjusted), options)
    console.print(quality_table(qualities, SOLVER, STEPS, EXTRACTOR))
    mixed = measure_batch(pipeline, found, SOLVER)
    console.print(batch_line(mixed))
    figures = _figures(speeds, qualities, mixed) | {
        "device": describe_device(options.device), "threads": torch.get_num_threads(), "model": pipeline.name,
        "sd15_pixels": _pixels(options), "pictures": QUICK_PICTURES if options.quick else PICTURES,
    }  # fmt: skip
    if options.out is not None:
        _write(options.out, figures, qualities)
    return figures


def _pixels(options: BenchOptions) -> int:
    return 64 if options.quick else 512 if options.device.startswith("cuda") else 256


def _speed(options: BenchOptions) -> list[Speed]:
    if not options.device.startswith("cuda"):
        keep_freed_memory()  # as an engine does
    network = sd15_unet(options.device)
    network.to(memory_format=torch.channels_last)
    text = text_embeddings(2, options.device)
    return measure_speed(network, text, _pixels(options) // FACTOR, QUICK_SPEED if options.quick else SPEED)


def _profile(pipeline: Pipeline, options: BenchOptions) -> tuple[Profile, Displacement]:
    """Equation 6, and what it costs that all reuse together, with seeds that are not among those that are judged."""
    prompts = PROMPTS[: 4 if options.quick else CALIBRATION_PROMPTS]
    requests = [
        _request(prompt, seed) for prompt in prompts for seed in range(10_000, 10_000 + (1 if options.quick else SEEDS))
    ]
    plan, work = _plan(pipeline, STEPS), measure_work(pipeline, requests[0])
    few = requests[:: max(1, len(requests) // DISPLACED_IMAGES)]
    displacement = measure_displacement(pipeline, plan, few, work.blocks, DISPLACED_IMAGES)
    return profile(pipeline, plan, requests, work, BATCH), displacement


def _request(prompt: str, seed: int, steps: int = STEPS) -> Request:
    return Request(prompt=prompt, solver=SOLVER, steps=steps, guidance_scale=GUIDANCE, seed=seed)


def _plan(pipeline: Pipeline, steps: int) -> Plan:
    return Engine(pipeline).plan(_request("plan", 0, steps))


def _quality(pipeline: Pipeline, contestants: Sequence[Contestant], options: BenchOptions) -> list[Quality]:
    wanted = QUICK_PICTURES if options.quick else PICTURES
    reference = _reference(pipeline, options, wanted)
    if reference is None:
        captions = [PROMPTS[number % len(PROMPTS)] for number in range(wanted)]
    else:
        captions = [reference.data.captions[index] for index in reference.chosen]
    plans = {count: _plan(pipeline, count) for count in {contestant.peer.steps(STEPS) for contestant in contestants}}
    comparison = Comparison(pipeline, [_request(caption, seed) for seed, caption in enumerate(captions)], BATCH)
    seconds = comparison.run(contestants, plans, STEPS)
    return judge(contestants, seconds, reference)


def _reference(pipeline: Pipeline, options: BenchOptions, wanted: int) -> Reference | None:
    if options.data is None:
        return None
    height, _ = pipeline.default_size
    table = {"path": str(options.data), "exclude": EXCLUDED, "size": height}
    data = load_images(DataTable.model_validate(table))
    [extractor] = build_extractors(ExtractorOptions(names=[EXTRACTOR], device=options.device))
    return Reference(data, spread_indices(len(data), wanted), extractor)


def _adjusted(pipeline: Pipeline, found: Profile) -> dict[float, Adjustment]:
    """Scale and shift by threshold, trained on the shipped prompts."""
    plan, requests = _plan(pipeline, STEPS), [_request(prompt, 0) for prompt in PROMPTS]
    return {
        delta: train_scale_shift(pipeline, plan, requests, found, Choice(delta=delta), SCALE_SHIFT_MINUTES)
        for delta in SCALE_SHIFT_DELTAS
    }


def _contestants(
    found: Profile, displacement: Displacement, quick: bool, adjusted: Mapping[float, Adjustment]
) -> list[Contestant]:
    """No cache first. The peers whose packages are not installed are left out."""
    contestants = [Contestant(Uncached(), "no cache")]
    for delta in QUICK_DELTAS if quick else DELTAS:
        schedule, _ = choose(found, None, Choice(delta=delta))
        contestants.append(Contestant(BlockCache(f"block cache, delta {delta:g}", schedule), "block cache"))
    for delta, adjustment in adjusted.items():
        schedule, _ = choose(found, None, Choice(delta=delta))
        name = f"block cache with scale-shift, delta {delta:g}"
        contestants.append(Contestant(BlockCache(name, schedule, adjustment), "scale-shift"))
    headline, _ = choose(found, None, Choice(delta=HEADLINE_DELTA))
    target = saving(headline, found.work.share(headline.blocks))
    resnets, delta = choose(found, None, Choice("resnet", saving=target))
    name = f"ResNet blocks at equal saving (delta {delta:.2f})"
    contestants.append(Contestant(BlockCache(name, resnets), "ResNet blocks"))
    for share in QUICK_TOGETHER_SAVINGS if quick else TOGETHER_SAVINGS:
        schedule, _ = choose(found, displacement, Choice("all", saving=share, criterion="displacement"))
        contestants.append(Contestant(BlockCache(f"all blocks together, saving {share:.0%}", schedule), "together"))
    contestants += [Contestant(FewerSteps(share), "fewer steps") for share in (QUICK_FEWER if quick else FEWER)]
    contestants += [Contestant(peer, "pyramid attention broadcast") for peer in _broadcasts(quick)]
    if importlib.util.find_spec("DeepCache") is not None:
        settings = [(3, 1)] if quick else [(2, 1), (3, 1), (5, 1), (2, 0), (3, 0), (5, 0)]
        contestants += [Contestant(DeepCache(interval, branch), "DeepCache") for interval, branch in settings]
    if importlib.util.find_spec("tgate") is not None:
        contestants += [Contestant(TGate(gate), "T-GATE") for gate in ((10,) if quick else (6, 10, 14))]
    return contestants


def _broadcasts(quick: bool) -> list[AttentionBroadcast]:
    """Within the timesteps that diffusers documents, and over the whole trajectory, which saves more."""
    if quick:
        return [AttentionBroadcast()]
    ranges = [(2, 2), (2, 6), (4, 8)]
    return [AttentionBroadcast(own, cross) for own, cross in ranges] + [
        AttentionBroadcast(own, cross, timesteps=(-1.0, 1000.0)) for own, cross in ranges
    ]


def _figures(speeds: Sequence[Speed], qualities: Sequence[Quality], mixed: MixedBatch) -> dict[str, Any]:
    headline = next(one for one in qualities if one.name == f"block cache, delta {HEADLINE_DELTA:g}")
    figures: dict[str, Any] = {}
    for steps in (20, 50):
        found = [one for one in speeds if one.steps == steps]
        figures[f"speedup_{steps}"] = round(min(one.speedup for one in found), 4) if found else None
        figures[f"speedup_together_{steps}"] = round(min(one.speedup_together for one in found), 4) if found else None
    return figures | {
        "isolated": mixed.isolated,
        "psnr": round(headline.psnr, 3),
        "ssim": round(headline.ssim, 4),
        "latency": round(headline.latency, 4),
        "batch_speedup": round(mixed.speedup, 4),
        "batch_share_evaluated": round(mixed.share_evaluated, 4),
        "quality": [vars(one) for one in qualities],
        "speed": [_speed_figures(one) for one in speeds],
    }


def _speed_figures(one: Speed) -> dict[str, Any]:
    return {**vars(one), "speedup": one.speedup, "speedup_together": one.speedup_together, "paper": one.paper}


def _write(out: Path, figures: Mapping[str, Any], qualities: Sequence[Quality]) -> None:
    text = json.dumps(figures, indent=2) + "\n"
    write_file(out / "block-cache.json", lambda path: path.write_text(text, encoding="utf-8"))
    plot(qualities, out / "block-cache.png")
