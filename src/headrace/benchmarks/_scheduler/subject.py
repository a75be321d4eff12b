"""The model that is served: what a scheduler must know of it, measured in this run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.benchmarks._mixed_load import PROMPTS, size_menu
from headrace.benchmarks._progress import Show
from headrace.benchmarks.registry import BenchOptions
from headrace.engine.planner import Planner
from headrace.errors import UnsupportedModelError
from headrace.evaluation.extractors.registry import ExtractorOptions, build_extractors
from headrace.evaluation.machine import machine_name
from headrace.models.pipelines.base import Pipeline
from headrace.models.pipelines.loading import load
from headrace.request import Request
from headrace.serving.arrivals import Mix
from headrace.serving.latency_table import LatencyTable
from headrace.serving.load_study import House
from headrace.serving.measurement import Design
from headrace.serving.profile import lanes_of, probes, profile
from headrace.serving.skip_window import SkipWindow
from headrace.serving.trace import Trace
from headrace.techniques.guidance.calibrate import Grid, measure_similarity
from headrace.tuning.judges import features

SOLVER = "dpm++2m"
EXTRACTOR = "colour-gradients"


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        steps: fewest and most of a request.
        rows, decodings, chunks, repeats: of the latency table; `held_out` loads for its error.
        pictures, starts: of the skip window, measured at `window_steps`.
    """

    steps: tuple[int, int] = (20, 50)
    rows: tuple[int, ...] = (0, 1, 2, 4, 8, 16)
    decodings: tuple[int, ...] = (0, 1, 4)
    chunks: tuple[int, ...] = (1, 2, 4)
    repeats: int = 3
    held_out: int = 6
    pictures: int = 16
    starts: int = 9
    window_steps: int = 20


QUICK = Scale((2, 4), (0, 1, 4), (0, 1), (1, 2), 1, 1, 2, 3, 4)


@dataclass(frozen=True)
class Subject:
    """A model, and who serves it."""

    pipeline: Pipeline
    house: House
    mix: Mix

    def requests(self, trace: Trace) -> list[Request]:
        """What the arrivals of a trace ask for."""
        sizes = zip(trace.height.tolist(), trace.width.tolist(), strict=True)
        return [
            Request(
                prompt=PROMPTS[number % len(PROMPTS)], solver=SOLVER, steps=steps, height=height, width=width,
                seed=number,
            )
            for number, (steps, (height, width)) in enumerate(zip(trace.steps.tolist(), sizes, strict=True))
        ]  # fmt: skip


def measure_subject(options: BenchOptions, scale: Scale, slots: int, floor: float, show: Show) -> Subject:
    """Loads the model and measures its latencies and its skip window.

    Raises `ModelError` for one that cannot be loaded, `UnsupportedModelError` for one that takes no prompts.
    """
    pipeline = load(options.model, device=options.device)
    if not hasattr(pipeline.components, "tokenizer"):
        raise UnsupportedModelError(
            f"{pipeline.name} takes no prompts, and the requests are made of them", "Use another"
        )
    sizes = tuple(dict.fromkeys(size_menu(pipeline)))
    table = _latencies(pipeline, sizes, scale, show)
    window = _window(pipeline, scale, show) if pipeline.guided else None
    return Subject(pipeline, House(table, window, slots, floor=floor), Mix(sizes, scale.steps))


def _latencies(pipeline: Pipeline, sizes: tuple[tuple[int, int], ...], scale: Scale, show: Show) -> LatencyTable:
    chunks = tuple(count for count in scale.chunks if count <= pipeline.max_chunks)
    design = Design(sizes, scale.rows, scale.decodings, chunks, pipeline.guided, scale.repeats, held_out=scale.held_out)
    lanes, done = lanes_of(pipeline), 0
    total = probes(design, lanes)

    def advance(rounds: int) -> None:
        nonlocal done
        done += rounds
        show("latencies", done / total)

    request = Request(prompt=PROMPTS[0])
    return profile(pipeline, request, design, machine_name(pipeline.device), lanes, advance)


def _window(pipeline: Pipeline, scale: Scale, show: Show) -> SkipWindow:
    [extractor] = build_extractors(ExtractorOptions([EXTRACTOR], device=str(pipeline.device)))
    requests = [
        Request(prompt=prompt, solver=SOLVER, steps=scale.window_steps, seed=seed)
        for seed, prompt in enumerate(PROMPTS[: scale.pictures])
    ]
    plan = Planner(pipeline).plan(requests[0])
    grid = Grid.of(len(plan), scale.starts)
    done, total = 0, grid.network_rows * len(requests)

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        show("skip window", done / total)

    found = measure_similarity(
        pipeline, plan, requests, lambda pixels: features(extractor, pixels), grid, centred=True, progress=advance
    )
    starts, shares = (np.asarray(counts) / grid.rows for counts in (grid.firsts, grid.counts))
    return SkipWindow(starts.tolist(), shares.tolist(), found.mean.tolist())
