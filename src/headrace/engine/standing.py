"""How far a request is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.engine.slot import Job, Slot
from headrace.models.pipelines.base import Pipeline
from headrace.plan.plan import Plan


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one request is.

    Attributes:
        row: plan rows done, of `rows`.
        guided: whether the row that comes next evaluates both guidance branches; False where none comes.
        chunk: decoder chunks done, of `chunks`; 0 of 0 before decoding begins.
        size: (height, width) of the picture in pixels.
        plan: what it goes by.
    """

    row: int
    rows: int
    guided: bool
    chunk: int
    chunks: int
    size: tuple[int, int]
    plan: Plan


def standing(pipeline: Pipeline, place: Job | Slot) -> Standing:
    """Of a request that waits, or that has a slot."""
    if isinstance(place, Job):
        guided = bool(np.any(place.plan.guidance[place.row : place.row + 1] != 1))
        return Standing(place.row, len(place.plan), guided, 0, 0, pipeline.size(place.request), place.plan)
    guided = not place.done and bool(place.table.guided[place.row])
    chunk, chunks = (0, 0) if place.decoding is None else (place.decoding.done, len(place.decoding.chunks))
    job = place.job
    return Standing(place.row, len(job.plan), guided, chunk, chunks, pipeline.size(job.request), job.plan)
