"""Block caching: speed on Stable Diffusion 1.5's network, quality beside its peers, and a mixed continuous batch.

Three measurements, each with its contestants taking turns, so that a slow spell of the machine falls on all of them:

1. One guided request on SD 1.5's U-Net (859.5M parameters, random weights; 256 px on a CPU, 512 px on a GPU, 64 px in a
   quick run), every spatial transformer evaluated in the rhythm of the paper's Fig. 4: 5 rows of 20; and the ResNet
   blocks in the same rhythm too.
2. On a trained model, DPM++ 2M in 20 steps, and both solvers in 50 (not in a quick run): PSNR and SSIM to the uncached
   pictures and, with `--data`, recall of the captions and Frechet distance, against latency: thresholds delta from 0
   to 1, scale-shift trained for four minutes a threshold (20 steps, not in a quick run), ResNet blocks in place of
   transformers at equal saving (the paper's Fig. 8), all blocks together in the rows that displace the latents least,
   DeepCache, T-GATE, attention broadcast, and fewer steps.
3. 16 requests of different steps, guidance scales and thresholds in one continuous batch, with and without the cache.

The paper's figures are of LDM-512 (900M parameters) on an A100.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from headrace.benchmarks._block_cache.batch import MixedBatch, measure_batch
from headrace.benchmarks._block_cache.display import batch_line, plot, quality_table, speed_table
from headrace.benchmarks._block_cache.field import HEADLINE_DELTA
from headrace.benchmarks._block_cache.setting import Setting
from headrace.benchmarks._block_cache.speed import Speed, measure_speed
from headrace.benchmarks._block_cache.study import EXTRACTOR, Study, study
from headrace.benchmarks._sd15 import FACTOR, sd15_unet, text_embeddings
from headrace.benchmarks.registry import BenchOptions
from headrace.benchmarks.throughput import describe_device
from headrace.engine.allocator import keep_freed_memory
from headrace.files import write_json
from headrace.models.pipelines.loading import load

# More steps, with fewer pictures: the figures of the first are the ones that the JSON names.
SETTINGS = (Setting("dpm++2m", 20, 512, scale_shift=True), Setting("dpm++2m", 50, 64), Setting("ddim", 50, 64))
QUICK_SETTINGS = (Setting("dpm++2m", 20, 8),)
SPEED = [("dpm++2m", 20), ("ddim", 20), ("dpm++2m", 50), ("ddim", 50)]
QUICK_SPEED = [("dpm++2m", 20)]


def run(options: BenchOptions, console: Console) -> Mapping[str, object]:
    """Runs the three measurements. Raises `ModelError` for a model that cannot be loaded, `DataError` for the data."""
    speeds = _speed(options)
    console.print(speed_table(speeds, describe_device(options.device), _pixels(options)))
    pipeline = load(options.model, device=options.device)
    studies = []
    for setting in QUICK_SETTINGS if options.quick else SETTINGS:
        studies.append(study(pipeline, setting, options))
        console.print(quality_table(studies[-1].qualities, setting.solver, setting.steps, EXTRACTOR))
    first = studies[0]
    mixed = measure_batch(pipeline, first.profile, first.setting.solver)
    console.print(batch_line(mixed))
    figures = _figures(speeds, studies, mixed) | {
        "device": describe_device(options.device), "threads": torch.get_num_threads(), "model": pipeline.name,
        "sd15_pixels": _pixels(options), "pictures": first.setting.pictures,
    }  # fmt: skip
    if options.out is not None:
        _write(options.out, figures, studies)
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


def _figures(speeds: Sequence[Speed], studies: Sequence[Study], mixed: MixedBatch) -> dict[str, Any]:
    headline = next(one for one in studies[0].qualities if one.name == f"block cache, delta {HEADLINE_DELTA:g}")
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
        "quality": {one.setting.name: [vars(quality) for quality in one.qualities] for one in studies},
        "speed": [_speed_figures(one) for one in speeds],
    }


def _speed_figures(one: Speed) -> dict[str, Any]:
    return {**vars(one), "speedup": one.speedup, "speedup_together": one.speedup_together, "paper": one.paper}


def _write(out: Path, figures: Mapping[str, Any], studies: Sequence[Study]) -> None:
    write_json(out / "block-cache.json", figures)
    for one in studies:
        plot(one.qualities, out / f"block-cache-{one.setting.name}.png")
