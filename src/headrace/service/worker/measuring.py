"""A small latency table, measured when a model is served for the first time and nobody gave one."""

from __future__ import annotations

import statistics
import time
import warnings

import torch

from headrace.engine import Engine, EngineSettings
from headrace.errors import HeadraceError
from headrace.evaluation.machine import machine_name
from headrace.models.pipelines.base import Pipeline
from headrace.request import Request
from headrace.serving.latency_table import Lane, LatencyTable
from headrace.serving.measurement import Design, Load
from headrace.serving.profile import EngineProbe, probes, profile

_ROWS = ((0, 1, 2, 4, 8), (0, 1, 4), (0, 1, 2))  # the finest that is fast enough is taken
_CHUNKS = 2
_REPEATS = 2
_LANE: Lane = "interleaved"


def quick_table(pipeline: Pipeline, most_s: float) -> LatencyTable | None:
    """The table of the default size; None where measuring it would take longer than `most_s` seconds.

    For a plan of rounds that is better than none; `headrace calibrate latency` measures more sizes, loads and lanes.
    """
    if most_s <= 0:
        return None
    try:
        request = _request(pipeline)
        row_s = _row_s(pipeline, request, most_s)
        for rows in _ROWS:
            design = _design(pipeline, rows)
            if probes(design, (_LANE,)) * row_s * statistics.fmean(rows) < most_s:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of a busy machine: the forecast corrects the table as it goes
                    return profile(pipeline, request, design, machine_name(pipeline.device), (_LANE,))
    except (HeadraceError, torch.OutOfMemoryError):
        return None  # the engine serves without one, and says so
    return None


def _design(pipeline: Pipeline, rows: tuple[int, ...]) -> Design:
    chunks = tuple(range(1, 1 + min(_CHUNKS, pipeline.max_chunks)))
    return Design((pipeline.default_size,), rows, (0, 1), chunks, pipeline.guided, _REPEATS, held_out=1)


def _request(pipeline: Pipeline) -> Request:
    """One that the model serves, whatever it must have."""
    for request in (Request(), Request(prompt="a picture"), Request(class_label=0)):
        try:
            pipeline.check(request)
            return request
        except HeadraceError:
            continue
    raise HeadraceError(f"{pipeline.name} takes neither prompts nor classes", "Give a latency table")


def _row_s(pipeline: Pipeline, request: Request, most_s: float) -> float:
    """Seconds of a row alone, with both branches; after a first one, unless that took all the time there is."""
    engine = Engine(pipeline, EngineSettings(slots=2))
    probe = EngineProbe(engine, request)
    try:
        for _ in range(3):
            began = time.perf_counter()
            probe(Load(pipeline.default_size, 1))
            taken = time.perf_counter() - began
            if taken > most_s / 8:
                break
        return taken
    finally:
        engine.close()
