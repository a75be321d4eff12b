"""Milliseconds a network row by batch size, and what memory format, attention kernel, dtype and compilation change.

Keeping freed memory concerns the whole process, so one network is timed without it and then with it. The other variants
all have it and are timed in turn with a plain network of their own, so that the machine's drift falls on all of
them (and none finds its weights in the cache). The figures are medians. This is what the engine's defaults rest on: how
much less a row costs in company, and which settings pay.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor
from rich.console import Console
from rich.progress import track
from rich.table import Table

from headrace.benchmarks.registry import BenchOptions
from headrace.benchmarks.throughput import describe_device
from headrace.engine.allocator import keep_freed_memory
from headrace.engine.runner import Runner
from headrace.engine.settings import EngineSettings
from headrace.models.denoiser import Rows
from headrace.models.pipelines.base import Pipeline
from headrace.models.pipelines.loading import load
from headrace.request import Request

SIZES = (1, 2, 4, 8, 16, 32, 64)
QUICK_SIZES = (1, 2, 8, 32)
COMPILED_SIZE = 32
REPEATS, QUICK_REPEATS = 15, 7
PLAIN, KEPT = "as loaded", "freed memory kept"


def run(options: BenchOptions, console: Console) -> Mapping[str, object]:
    """Times every variant at every batch size. Raises `ModelError`."""
    sizes, repeats = (QUICK_SIZES, QUICK_REPEATS) if options.quick else (SIZES, REPEATS)
    network = _caller(load(options.model, device=options.device), _settings(keep_freed_memory=False))
    medians = _medians({PLAIN: network}, sizes, repeats, options.device)
    keep_freed_memory()
    medians |= _medians({KEPT: network}, sizes, repeats, options.device)
    gains = {KEPT: _gains(medians[PLAIN], medians[KEPT])}
    variants = _medians(_variants(options), sizes, repeats, options.device)
    gains |= {name: _gains(variants[PLAIN], values) for name, values in variants.items() if name != PLAIN}
    compiled = {} if options.quick else _compiled(options, repeats)
    console.print(_table(options, sizes, medians[PLAIN], gains))
    if compiled:
        console.print(f"torch.compile: {compiled}")
    return {
        **compiled,
        "ms_per_row": dict(zip(map(str, sizes), (round(value, 3) for value in medians[PLAIN]), strict=True)),
        "batching_gain": round(medians[KEPT][0] / min(medians[KEPT]), 3),
        "gain": {name: dict(zip(map(str, sizes), values, strict=True)) for name, values in gains.items()},
        "model": options.model,
        "device": describe_device(options.device),
        "threads": torch.get_num_threads(),
    }


def _medians(
    variants: Mapping[str, Callable[[int], None]], sizes: tuple[int, ...], repeats: int, device: str
) -> dict[str, list[float]]:
    """Milliseconds a row of each variant, in the order of `sizes`."""
    medians: dict[str, list[float]] = {name: [] for name in variants}
    with torch.inference_mode():
        for size in track(sizes, description="batch sizes", console=Console(stderr=True), transient=True):
            for name, milliseconds in _time(variants, size, repeats, device).items():
                medians[name].append(milliseconds / size)
    return medians


def _gains(base: Sequence[float], other: Sequence[float]) -> list[float]:
    return [round(one / two, 3) for one, two in zip(base, other, strict=True)]


def _settings(channels_last: bool = False, keep_freed_memory: bool = True) -> EngineSettings:
    return EngineSettings(channels_last=channels_last, keep_freed_memory=keep_freed_memory)


def _variants(options: BenchOptions) -> dict[str, Callable[[int], None]]:
    """Name -> a call of the network with this many rows."""

    def loaded(dtype: torch.dtype = torch.float32) -> Pipeline:
        return load(options.model, device=options.device, dtype=dtype)

    eager = loaded()
    use_processor = getattr(eager.network, "set_attn_processor", None)
    if callable(use_processor):
        use_processor(AttnProcessor())
    return {
        PLAIN: _caller(loaded(), _settings()),
        "channels last": _caller(loaded(), _settings(channels_last=True)),
        "attention without a fused kernel": _caller(eager, _settings()),
        "bfloat16": _caller(loaded(torch.bfloat16), _settings()),
    }


def _compiled(options: BenchOptions, repeats: int) -> dict[str, float]:
    """What compiling the network takes and gains over the engine's defaults at one batch size; minutes on a CPU."""
    start = time.perf_counter()
    compiled = _caller(load(options.model, device=options.device), EngineSettings(compile="default"))
    with torch.inference_mode():
        compiled(COMPILED_SIZE)
    took = time.perf_counter() - start
    calls = {"eager": _caller(load(options.model, device=options.device), EngineSettings()), "compiled": compiled}
    medians = _medians(calls, (COMPILED_SIZE,), repeats, options.device)
    gain = medians["eager"][0] / medians["compiled"][0]
    return {f"compile_gain_at_{COMPILED_SIZE}": round(gain, 3), "compile_seconds": round(took, 1)}


def _caller(pipeline: Pipeline, settings: EngineSettings) -> Callable[[int], None]:
    runner = Runner(pipeline, settings)
    request = Request(prompt="red apple") if hasattr(pipeline.components, "tokenizer") else Request()
    conditioning = pipeline.encode([request])[0].positive
    shape = pipeline.latent_shape(*pipeline.default_size)

    def call(size: int) -> None:
        runner(
            Rows(
                sample=torch.randn((size, *shape), device=pipeline.device).to(pipeline.dtype),
                timestep=torch.linspace(1, 999, size, device=pipeline.device),
                conditioning={name: torch.stack([one] * size) for name, one in conditioning.items()},
                branches=np.zeros(size, np.int8),
            )
        )

    return call


def _time(variants: Mapping[str, Callable[[int], None]], size: int, repeats: int, device: str) -> dict[str, float]:
    """Median milliseconds of a call of `size` rows, by variant; the first call of each is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for repeat in range(repeats + 1):
        for name, call in variants.items():
            start = time.perf_counter()
            call(size)
            if device.startswith("cuda"):
                torch.cuda.synchronize(device)
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) * 1000 for name, values in seconds.items()}


def _table(
    options: BenchOptions, sizes: Sequence[int], base: Sequence[float], gains: Mapping[str, Sequence[float]]
) -> Table:
    table = Table(title=f"{options.model} on {describe_device(options.device)}")
    table.add_column("rows in a call", justify="right")
    table.add_column("ms a row", justify="right")
    for name in gains:
        table.add_column(name, justify="right")
    for position, size in enumerate(sizes):
        table.add_row(str(size), f"{base[position]:.2f}", *(f"x{values[position]:.2f}" for values in gains.values()))
    return table
