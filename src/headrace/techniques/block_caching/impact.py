"""What a stale block does to the picture: a criterion beside the paper's, which asks how much the block itself changes.

Equation 6 says how much a block's contribution changes, relative to itself. Two blocks that change alike may matter
very differently to the output, and a row's output moves the latents more or less, as the solver weighs it. So each
block alone is left one row behind, and the displacement of the latents that follows is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from headrace.models.denoiser import Rows
from headrace.models.lockstep import Lockstep, Start
from headrace.models.pipelines.base import Pipeline
from headrace.models.row_cache import attached
from headrace.plan import Plan
from headrace.request import Request
from headrace.techniques.block_caching.calibrate import check_uncached
from headrace.techniques.block_caching.schedule import Floats


@torch.inference_mode()
def measure_impact(
    pipeline: Pipeline,
    plan: Plan,
    requests: Sequence[Request],
    blocks: Sequence[str],
    batch: int = 8,
    progress: Callable[[int], None] | None = None,
) -> Floats:
    """[N-1, B]: how far the latents behind row r + 1 are moved by block i's value of row r in its place.

    Root mean square over a picture's latents, on the scale of the network's input, mean over the requests; every other
    block is evaluated. It takes 1 + B evaluations a row. `progress` is told how many plan rows were done since last.
    Raises `CalibrationError` where the pipeline caches already.
    """
    check_uncached(pipeline)
    batches = [requests[start : start + batch] for start in range(0, len(requests), batch)]
    with attached(pipeline, blocks):
        parts = [_measure(pipeline, plan, together, len(blocks), progress) for together in batches]
    counts = [len(together) for together in batches]
    return np.average(np.stack(parts), axis=0, weights=counts) * displacement(plan)[1:, None]


def displacement(plan: Plan) -> Floats:
    """[N]: by how much an error of 1 in a row's output moves what the network is told next, clipping aside."""
    told_next = np.append(plan.input_scale[1:], 1.0)
    moved: Floats = np.abs(plan.q * plan.b[:, 0] + plan.c) * told_next
    return moved


def _measure(
    pipeline: Pipeline,
    plan: Plan,
    requests: Sequence[Request],
    blocks: int,
    progress: Callable[[int], None] | None,
) -> Floats:
    """[N-1, B] root mean square of the change in the guided output, mean over these requests."""
    lockstep = Lockstep(pipeline, plan, pipeline.size(requests[0]))
    found: list[torch.Tensor] = []

    def evaluate(row: int, rows: Rows) -> torch.Tensor:
        stale = [] if row == 0 else [pipeline.denoise(_decided(rows, blocks, without=block)) for block in range(blocks)]
        output = pipeline.denoise(_decided(rows, blocks))
        if stale:
            fresh = lockstep.guided(row, output.float())
            changes = [lockstep.guided(row, one.float()) - fresh for one in stale]
            found.append(torch.stack([change.flatten(1).square().mean(1).sqrt().mean() for change in changes]))
        if progress is not None:
            progress(len(requests))
        return output

    lockstep.run(Start.of(pipeline, requests), evaluate)
    return torch.stack(found).to("cpu", torch.float64).numpy()


def _decided(rows: Rows, blocks: int, without: int | None = None) -> Rows:
    """These rows with every block evaluated and kept, or with all but one evaluated and nothing kept."""
    compute = np.ones((len(rows), blocks), np.bool_)
    keep = np.full_like(compute, without is None)
    if without is not None:
        compute[:, without] = False
    return replace(rows, columns={**rows.columns, "compute": compute, "keep": keep})
