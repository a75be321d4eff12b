"""What the real part plans with: this machine's latencies, and what skipped guidance costs this model, measured now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from headrace.benchmarks._progress import Show
from headrace.benchmarks._prompts import PROMPTS
from headrace.engine import Engine
from headrace.evaluation.extractors.registry import ExtractorOptions, build_extractors
from headrace.evaluation.machine import machine_name
from headrace.models.pipelines.base import Pipeline
from headrace.request import Request
from headrace.serving.arrivals import Mix
from headrace.serving.latency_table import LatencyTable
from headrace.serving.load_study import House
from headrace.serving.measurement import Design, doubling
from headrace.serving.profile import lanes_of, probes, profile
from headrace.serving.skip_window import SkipWindow
from headrace.serving.state import Size
from headrace.techniques.guidance.calibrate import Grid, measure_similarity
from headrace.tuning.judges import features

SOLVER = "dpm++2m"
SIDES = (1.0, 1.25, 1.5)  # of the model's own; the paper's are 512, 768 and 1024 px
EXTRACTOR = "colour-gradients"
_BATCH = 8


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        slots: requests in the engine at once.
        sizes: different sizes, the model's own first.
        steps: fewest and most of a request.
        repeats: of each round that the latency table is made of.
        pictures: that the window is measured on, from `starts` first rows.
    """

    slots: int
    sizes: int
    steps: tuple[int, int]
    repeats: int
    pictures: int
    starts: int


def own_mix(pipeline: Pipeline, effort: Effort, table: LatencyTable | None = None) -> Mix:
    """The sizes and steps of the requests; the sizes of a table that is there already."""
    if table is not None:
        return Mix(tuple(entry.size for entry in table.sizes), effort.steps)
    return Mix(tuple(_size(pipeline, side) for side in SIDES[: effort.sizes]), effort.steps)


def own_house(
    pipeline: Pipeline, mix: Mix, effort: Effort, floor: float, show: Show, table: LatencyTable | None = None
) -> House:
    """Measures the pipeline's latencies at the mix's sizes, unless a table of them is given, and its window."""
    if table is None:
        table = _table(pipeline, mix, effort, show)
    return House(table, _window(pipeline, effort, show), effort.slots, floor=floor)


def _size(pipeline: Pipeline, side: float) -> Size:
    multiple = pipeline.size_multiple
    height, width = (max(1, round(pixels * side / multiple)) * multiple for pixels in pipeline.default_size)
    return height, width


def _table(pipeline: Pipeline, mix: Mix, effort: Effort, show: Show) -> LatencyTable:
    chunks = doubling(min(2, pipeline.max_chunks))
    design = Design(
        tuple(mix.sizes), (0, *doubling(effort.slots)), (0, 1, 4), chunks, pipeline.guided, effort.repeats, held_out=2
    )
    lanes = lanes_of(pipeline)
    advance = _counted(show, "latencies", probes(design, lanes))
    return profile(pipeline, _request(effort), design, machine_name(pipeline.device), lanes, advance)


def _request(effort: Effort) -> Request:
    return Request(prompt=PROMPTS[0], solver=SOLVER, steps=sum(effort.steps) // 2)


def _window(pipeline: Pipeline, effort: Effort, show: Show) -> SkipWindow:
    [extractor] = build_extractors(ExtractorOptions((EXTRACTOR,), device=str(pipeline.device)))
    asked = _request(effort)
    requests = [
        asked.model_copy(update={"prompt": PROMPTS[seed % len(PROMPTS)], "seed": seed})
        for seed in range(effort.pictures)
    ]
    plan = Engine(pipeline).plan(asked)
    grid = Grid.of(len(plan), effort.starts)
    advance = _counted(show, "skip window", grid.network_rows * len(requests))
    found = measure_similarity(
        pipeline, plan, requests, lambda pixels: features(extractor, pixels), grid, True, _BATCH, advance
    )
    return SkipWindow(grid.starts, grid.shares, found.mean.tolist())


def _counted(show: Show, name: str, most: int) -> Callable[[int], None]:
    """Shows how much of `most` is done, where it is told how much more is."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        show(name, min(1.0, done / most))

    return advance
