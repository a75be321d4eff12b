"""PostDiff: cheaper steps on SD 1.5's and PixArt's networks, their quality beside others', and everything together.

Contestants take turns, so that a slow spell of the machine falls on all of them:

1. One guided request of 20 DPM++ 2M steps on SD 1.5's U-Net and PixArt-alpha's transformer (random weights; 256 px on a
   CPU, 512 px on a GPU; a quick run: SD 1.5 alone, 128 px, 5 steps), denoising alone: mixed resolution (s = 0.5,
   beta = 0.5), the deep branch every second row (k = 2), cross-attention reused and guidance dropped after m = 0.75,
   each alone and together. Paper: SD 1.5 2.93 s to 1.14 s (A5000), PixArt-alpha 1.752 s to 1.382 s (H100).
2. On a trained model, in one run: each mechanism, all together, a grid of them at 20, 14 and 10 steps, the deep branch
   evaluated in the rows that displace the latents least, DeepCache, T-GATE, Faster Diffusion's idea and fewer steps:
   PSNR to plain sampling and, with `--data`, recall of the captions and Frechet distance, against latency. `margins`:
   how far the best of ours that is as fast is ahead of each other. `tuner_regret`: what a search of half of the grid
   loses against all of it. `ranking_agreement`: whether few pictures rank our settings as the rest does.
   `cross_attention_sources`: PSNR where cross-attention is reused from either guidance branch, both or the mean.
3. Requests of mixed steps and guidance scales, from prompt to pixels: diffusers one by one, the engine, and the engine
   with block caching, mixed resolution and guidance cut-off together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from headrace.benchmarks._bare_pipelines import BarePixArt, BareStableDiffusion
from headrace.benchmarks._block_cache.display import quality_table
from headrace.benchmarks._block_cache.quality import Quality
from headrace.benchmarks._block_cache.setting import Setting
from headrace.benchmarks._block_cache.study import EXTRACTOR, calibrated, captions_of, reference_of
from headrace.benchmarks._postdiff.combination import Service, measure_combination
from headrace.benchmarks._postdiff.display import combination_table, plot, ranking_table, speed_table
from headrace.benchmarks._postdiff.mechanisms import MECHANISMS, PLAIN, TOGETHER, mechanism
from headrace.benchmarks._postdiff.quality import Accelerated, margins, measure_quality
from headrace.benchmarks._postdiff.regret import regret
from headrace.benchmarks._postdiff.sources import measure_sources
from headrace.benchmarks._postdiff.speed import Speed, measure_speed
from headrace.benchmarks.registry import BenchOptions
from headrace.benchmarks.throughput import describe_device
from headrace.engine.allocator import keep_freed_memory
from headrace.files import write_json
from headrace.models.pipelines.base import Pipeline
from headrace.models.pipelines.loading import load
from headrace.models.row_call import Source
from headrace.techniques.block_caching.artefact import Cached, Choice, choose
from headrace.techniques.block_caching.schedule import Schedule
from headrace.tuning.interval import Interval
from headrace.tuning.settings import Settings
from headrace.tuning.space import Space
from headrace.tuning.trial import Outcome

SOLVER, STEPS = "dpm++2m", 20
PAPER_SD15, PAPER_PIXART = 2.93 / 1.14, 1.752 / 1.382
SETTING, QUICK_SETTING = Setting(SOLVER, STEPS, 256), Setting(SOLVER, STEPS, 8)
SERVED, QUICK_SERVED = 96, 6
SOURCE_PICTURES = 64
BLOCK_SAVINGS: dict[Cached, float] = {"all": 0.27, "branch": 0.54}  # all blocks together, or the deep branch
BRANCH_SAVINGS, QUICK_BRANCH_SAVINGS = (0.11, 0.19, 0.27, 0.38, 0.46, 0.54), (0.38,)
GUIDED_SHARES = (1.0, 0.75)
# What `headrace tune emoji --target-speedup 2` chose (docs/results/postdiff.md), its number of steps left aside.
TUNED_SAVING: tuple[Cached, float] = ("all", 0.3)
TUNED: dict[str, Any] = {"guidance_share": 0.6, "deep_interval": 3, "cross_share": 0.5, "block_saving": 0.3}
Schedules = Mapping[tuple[Cached, float], Schedule]
GRID: dict[str, tuple[Any, ...]] = {
    "steps": (20, 14, 10), "guidance_share": (1.0, 0.75), "low_share": (0.0, 0.5), "deep_interval": (1, 2),
}  # fmt: skip
# PostDiff's constants, one at a time: s, beta, k and m.
VARIED: tuple[dict[str, float], ...] = (
    {"low_share": 0.25, "low_scale": 0.5}, {"low_share": 0.25, "low_scale": 0.75},
    {"low_share": 0.5, "low_scale": 0.75}, {"low_share": 0.75, "low_scale": 0.5},
    {"deep_interval": 3}, {"deep_interval": 5},
    {"guidance_share": 0.5}, {"guidance_share": 0.6}, {"guidance_share": 0.9},
)  # fmt: skip
QUICK_GRID: dict[str, tuple[Any, ...]] = {"steps": (20,), "low_share": (0.0, 0.5), "deep_interval": (1, 2)}


def run(options: BenchOptions, console: Console) -> Mapping[str, object]:
    """Runs the three parts. Raises `ModelError` for a model that cannot be loaded, `DataError` for the data."""
    speeds = []
    for speed in _speeds(options):
        speeds.append(speed)
        console.print(speed_table(speed, describe_device(options.device)))
    pipeline = load(options.model, device=options.device)
    setting = QUICK_SETTING if options.quick else SETTING
    schedules = _schedules(pipeline, setting, options.quick)
    ours = _ours(options.quick) | _by_displacement(schedules, options.quick)
    judgement = measure_quality(pipeline, setting, list(ours.values()), options)
    qualities = judgement.qualities
    console.print(quality_table(qualities, SOLVER, STEPS, EXTRACTOR))
    lost = regret(
        _outcomes(qualities, ours, options.quick), Space(Settings.parse({"solver": SOLVER}), _grid(options.quick))
    )
    sources = {} if options.quick else _sources(pipeline, setting, options)
    console.print(ranking_table(judgement.agreement, sources))
    services = _serve(pipeline, schedules, options)
    console.print(combination_table(services))
    figures = _figures(speeds, qualities, services) | {
        "tuner_regret": round(lost, 4), "device": describe_device(options.device),
        "threads": torch.get_num_threads(), "model": pipeline.name, "pictures": setting.pictures,
        "margins": _margins(qualities, {one.name for one in ours.values()}),
        "ranking_agreement": judgement.agreement, "cross_attention_sources": sources,
    }  # fmt: skip
    if options.out is not None:
        _write(options.out, figures, qualities)
    return figures


def _speeds(options: BenchOptions) -> Iterator[Speed]:
    on_gpu = options.device.startswith("cuda")
    if not on_gpu:
        keep_freed_memory()  # as an engine does
    pixels, steps = (128, 5) if options.quick else (512 if on_gpu else 256, STEPS)
    stable_diffusion = BareStableDiffusion(options.device)
    stable_diffusion.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    yield measure_speed(stable_diffusion, pixels, steps, PAPER_SD15)
    del stable_diffusion
    if not options.quick:
        yield measure_speed(BarePixArt(options.device), pixels, steps, PAPER_PIXART)


def _grid(quick: bool) -> dict[str, tuple[Any, ...]]:
    return QUICK_GRID if quick else GRID


def _grid_settings(quick: bool) -> list[Settings]:
    grid = _grid(quick)
    chosen = (dict(zip(grid, values, strict=True)) for values in product(*grid.values()))
    return [Settings.parse({"solver": SOLVER, **values}).canonical for values in chosen]


def _ours(quick: bool) -> dict[str, Accelerated]:
    """By identity: the mechanisms alone and together, then what else is in the grid; plain settings too."""
    found: dict[str, Accelerated] = {}
    for name in MECHANISMS:
        settings = mechanism(name, SOLVER, STEPS)
        group = "PostDiff" if name == TOGETHER else "PostDiff, each alone"
        found[settings.identity] = Accelerated("engine, plain" if name == PLAIN else name, group, settings)
    varied = () if quick else VARIED
    for settings in (Settings.parse({"solver": SOLVER, "steps": STEPS, **values}) for values in varied):
        found[settings.identity] = Accelerated(settings.label, "constants varied", settings)
    for settings in _grid_settings(quick):
        found.setdefault(settings.identity, Accelerated(settings.label, "tuned grid", settings))
    return found


def _schedules(pipeline: Pipeline, setting: Setting, quick: bool) -> dict[tuple[Cached, float], Schedule]:
    """By what is cached and the share of the network's work that it saves, all of one measurement."""
    found, displacements = calibrated(pipeline, setting, quick)
    savings = {
        *BLOCK_SAVINGS.items(),
        TUNED_SAVING,
        *(("branch", share) for share in _branch_savings(quick)),
    }
    return {
        (kind, share): choose(found, displacements[kind], Choice(kind, saving=share, criterion="displacement"))[0]
        for kind, share in sorted(savings)
    }


def _branch_savings(quick: bool) -> tuple[float, ...]:
    return QUICK_BRANCH_SAVINGS if quick else BRANCH_SAVINGS


def _sources(pipeline: Pipeline, setting: Setting, options: BenchOptions) -> dict[Source, float]:
    captions = captions_of(reference_of(pipeline, options, SOURCE_PICTURES), SOURCE_PICTURES)
    return measure_sources(pipeline, [setting.request(caption, seed) for seed, caption in enumerate(captions)])


def _by_displacement(schedules: Schedules, quick: bool) -> dict[str, Accelerated]:
    """By identity: the deep branch where its reuse displaces the latents least, guided to the end or not."""
    found: dict[str, Accelerated] = {}
    for share, guided in product(_branch_savings(quick), GUIDED_SHARES[:1] if quick else GUIDED_SHARES):
        settings = Settings.parse(
            {"solver": SOLVER, "steps": STEPS, "guidance_share": guided, "block_saving": share, "block_kind": "branch"}
        )
        schedule = schedules["branch", share]
        found[settings.identity] = Accelerated(settings.label, "deep branch by displacement", settings, schedule)
    return found


def _margins(qualities: Sequence[Quality], ours: Collection[str]) -> dict[str, dict[str, float | None]]:
    """By measure: recall where there is data, and PSNR to plain sampling."""
    found = {"psnr": margins(qualities, ours, lambda one: one.psnr)}
    recalls = {one.name: one.recall for one in qualities if one.recall is not None}
    return ({"recall": margins(qualities, ours, lambda one: recalls[one.name])} if recalls else {}) | found


def _outcomes(qualities: Sequence[Quality], ours: Mapping[str, Accelerated], quick: bool) -> dict[Settings, Outcome]:
    """Of the grid: recall, or PSNR where there is no data, as a tuner would find it."""
    by_name = {one.name: one for one in qualities}
    found = {}
    for settings in _grid_settings(quick):
        quality = by_name[ours[settings.identity].name]
        worth = quality.psnr if quality.recall is None else quality.recall
        found[settings] = Outcome(cost=Interval.exact(quality.latency), quality=Interval.exact(worth))
    return found


def _serve(pipeline: Pipeline, schedules: Schedules, options: BenchOptions) -> list[Service]:
    count = QUICK_SERVED if options.quick else SERVED
    reference = reference_of(pipeline, options, count)
    return measure_combination(
        pipeline, options.model, captions_of(reference, count), _combinations(schedules, options.quick), reference
    )


def _combinations(schedules: Schedules, quick: bool) -> dict[str, tuple[Settings, Schedule | None]]:
    """Names say what is on besides continuous batching."""
    caching, deep = (
        {"block_saving": BLOCK_SAVINGS[kind], "block_kind": kind, "block_criterion": "displacement"}
        for kind in ("all", "branch")
    )
    resolution, guidance = {"low_share": 0.5, "low_scale": 0.5}, {"guidance_share": 0.75}
    all_three: dict[str, Any] = {**caching, **resolution, **guidance}
    wanted = {"+ block caching, mixed resolution, guidance cut-off": all_three}
    if not quick:
        wanted = {
            "+ block caching": caching,
            "+ block caching, guidance cut-off": {**caching, **guidance},
            "+ block caching, mixed resolution": {**caching, **resolution},
            **wanted,
            "+ deep branch cached, guidance cut-off": {**deep, **guidance},
            "+ deep branch cached, mixed resolution, guidance cut-off": {**deep, **resolution, **guidance},
            "+ PostDiff": MECHANISMS[TOGETHER],
            "+ tuned settings": TUNED,
        }
    found: dict[str, tuple[Settings, Schedule | None]] = {}
    for name, values in wanted.items():
        settings = Settings.parse({"solver": SOLVER, **values})
        cached = settings.block_kind, settings.block_saving
        found[name] = settings, schedules[cached] if settings.block_saving else None
    return found


def _figures(speeds: Sequence[Speed], qualities: Sequence[Quality], services: Sequence[Service]) -> dict[str, Any]:
    first = speeds[0]
    return {
        "speedup": round(first.speedup, 4),
        "speedup_parts": {name: round(value, 4) for name, value in first.speedups.items()},
        "speedup_pixart": round(speeds[1].speedup, 4) if len(speeds) > 1 else None,
        "quality": {one.name: vars(one) for one in qualities},
        "combination": [vars(one) for one in services],
        "speed": [{**vars(one), "speedups": one.speedups} for one in speeds],
    }


def _write(out: Path, figures: Mapping[str, Any], qualities: Sequence[Quality]) -> None:
    write_json(out / "postdiff.json", figures)
    plot(qualities, out / "postdiff.png")
