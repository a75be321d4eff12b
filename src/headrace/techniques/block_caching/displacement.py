"""What reuse does to the picture: a criterion beside the paper's, which asks how much each block changes by itself.

A block that reuses while those before it are evaluated adds an old value to a new input, and that costs more than it
saves: schedules that let every block follow its own threshold lose to fewer steps. So blocks reuse together here. What
is measured is by how much the latents behind a row are displaced when all of them reuse the values of an earlier row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from headrace.models.denoiser import Rows
from headrace.models.lockstep import Lockstep, Start
from headrace.models.pipelines.base import Pipeline
from headrace.models.row_cache import attached
from headrace.models.slot_cache import SlotCache
from headrace.plan import Plan
from headrace.request import Request
from headrace.techniques.block_caching.calibrate import check_uncached
from headrace.techniques.block_caching.schedule import Floats

REACH = 8  # rows for which a value may be reused


@dataclass(frozen=True, eq=False)
class Displacement:
    """What it costs that these blocks reuse together.

    Attributes:
        blocks: [B] module paths.
        values: [N-1, K], entry [r-1, k-1]: root mean square displacement of the latents behind row r, on the scale of
            the network's input, where the blocks reuse what they added in row r - k; 0 where there is no such row.
    """

    blocks: tuple[str, ...]
    values: Floats


@torch.inference_mode()
def measure_displacement(
    pipeline: Pipeline,
    plan: Plan,
    requests: Sequence[Request],
    blocks: Sequence[str],
    batch: int = 2,
    reach: int = REACH,
    progress: Callable[[int], None] | None = None,
) -> Displacement:
    """The mean over requests, for values up to `reach` rows old (K is `reach`, at most N - 1).

    Every row is evaluated whole, and once more for each k, where only what is not cached is. The values of `reach` rows
    are held for `batch` requests at a time. `progress` is told how many plan rows were done since last. Raises
    `CalibrationError` where the pipeline caches already.
    """
    check_uncached(pipeline)
    reach = min(reach, len(plan) - 1)
    batches = [requests[start : start + batch] for start in range(0, len(requests), batch)]
    with attached(pipeline, blocks):
        parts = [_measure(pipeline, plan, together, len(blocks), reach, progress) for together in batches]
    counts = [len(together) for together in batches]
    mean = np.average(np.stack(parts), axis=0, weights=counts)
    return Displacement(tuple(blocks), mean * row_weights(plan)[1:, None])


def row_weights(plan: Plan) -> Floats:
    """[N]: by how much an error of 1 in a row's output moves what the network is told next, clipping aside."""
    told_next = np.append(plan.input_scale[1:], 1.0)
    moved: Floats = np.abs(plan.q * plan.b[:, 0] + plan.c) * told_next
    return moved


def _measure(
    pipeline: Pipeline,
    plan: Plan,
    requests: Sequence[Request],
    blocks: int,
    reach: int,
    progress: Callable[[int], None] | None,
) -> Floats:
    """[N-1, K] root mean square of the change in the guided output, mean over these requests."""
    lockstep = Lockstep(pipeline, plan, pipeline.size(requests[0]))
    earlier: list[list[SlotCache]] = []  # of the rows before, the last one first
    found = np.zeros((len(plan) - 1, reach))

    def evaluate(row: int, rows: Rows) -> torch.Tensor:
        kept = [SlotCache() for _ in requests]
        output = pipeline.denoise(_decided(rows, blocks, kept, computes=True))
        fresh = lockstep.guided(row, output.float())
        for place, caches in enumerate(earlier):
            stale = pipeline.denoise(_decided(rows, blocks, caches, computes=False))
            change = lockstep.guided(row, stale.float()) - fresh
            found[row - 1, place] = change.flatten(1).square().mean(1).sqrt().mean().item()
        earlier.insert(0, kept)
        del earlier[reach:]
        if progress is not None:
            progress(len(requests))
        return output

    lockstep.run(Start.of(pipeline, requests), evaluate)
    return found


def _decided(rows: Rows, blocks: int, caches: Sequence[SlotCache], *, computes: bool) -> Rows:
    """These rows with every block evaluated and kept in `caches`, or with every block reusing what is there."""
    decisions = np.full((len(rows), blocks), computes)
    together = list(caches) * (len(rows) // len(caches))  # both branches of a request share its cache
    return replace(rows, caches=together, columns={**rows.columns, "compute": decisions, "keep": decisions})
