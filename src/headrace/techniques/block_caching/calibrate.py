"""How much blocks change from row to row (Wimbauer et al. 2024, section 3.2), measured row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from headrace.errors import CalibrationError, NumericalError
from headrace.models.blocks import Kind, find_blocks, kind_of
from headrace.models.branches import default_branch
from headrace.models.denoiser import Rows
from headrace.models.lockstep import Lockstep, Start
from headrace.models.macs import block_macs
from headrace.models.pipelines.base import Pipeline
from headrace.models.row_cache import RowCache, attached
from headrace.plan import Plan
from headrace.request import Request
from headrace.techniques.block_caching.schedule import Floats

_SMALLEST = 1e-20  # for what blocks add that is zero: no change is 0, any change is huge


@dataclass(frozen=True, eq=False)
class Work:
    """Multiply-accumulate operations of one row, one guidance branch: the whole network's and each block's.

    Attributes:
        blocks: [B] module paths, in the order of evaluation within each kind.
        kinds: [B] "transformer", "resnet", and "branch" for the deep branch that all but the outermost are part of.
        macs: [B] of each block.
        network_macs: of the whole network.
    """

    blocks: tuple[str, ...]
    kinds: tuple[Kind, ...]
    macs: tuple[int, ...]
    network_macs: int

    def share(self, blocks: Sequence[str]) -> Floats:
        """[len(blocks)] each block's share of the network's operations."""
        macs = dict(zip(self.blocks, self.macs, strict=True))
        return np.array([macs[block] / self.network_macs for block in blocks])

    def of_kind(self, kind: Kind) -> tuple[str, ...]:
        """Blocks of a kind. Raises `CalibrationError` where the network has none."""
        found = tuple(b for b, own in zip(self.blocks, self.kinds, strict=True) if own == kind)
        if not found:
            raise CalibrationError(f"the network has no {kind} blocks", f"It has {', '.join(sorted(set(self.kinds)))}")
        return found


@dataclass(frozen=True, eq=False)
class Profile:
    """The relative L1 change (equation 6) of B blocks over the N rows of a trajectory.

    Attributes:
        work: the blocks and what they cost.
        timesteps: [N] what the network was told.
        mean: [N-1, B] change from row r to row r + 1 relative to row r, averaged over images.
        deviation: [N-1, B] standard deviation over images; 0 for a single one.
        images: how many trajectories were measured.
    """

    work: Work
    timesteps: Floats
    mean: Floats
    deviation: Floats
    images: int

    def change(self, blocks: Sequence[str]) -> Floats:
        """[N-1, len(blocks)] mean change of these blocks. Raises `CalibrationError` for one that was not measured."""
        return self.mean[:, [self.work.blocks.index(block) for block in blocks]]


def measure_work(pipeline: Pipeline, request: Request) -> Work:
    """Counts the operations of every block that a cache may skip, on one row of the request.

    Raises `CalibrationError` for a network without such blocks.
    """
    network = pipeline.network
    blocks = (*find_blocks(network, "transformer"), *find_blocks(network, "resnet"))
    branch = (default_branch(network),) if find_blocks(network, "branch") else ()
    if not blocks:
        raise CalibrationError(
            f"{pipeline.name} has no transformer or ResNet blocks that a cache could skip", "Use another model"
        )
    total, macs = block_macs(pipeline, request, (*blocks, *branch))
    kinds = [kind_of(network.get_submodule(block)) for block in blocks]
    kinds += ["branch"] * len(branch)
    return Work((*blocks, *branch), tuple(kinds), tuple(macs), total)


def profile(
    pipeline: Pipeline,
    plan: Plan,
    requests: Sequence[Request],
    work: Work,
    batch: int = 8,
    progress: Callable[[int], None] | None = None,
) -> Profile:
    """Runs the requests by `plan`, `batch` at a time in lockstep, and measures every block of `work` in each row.

    Each request starts from the noise of its own seed, as in the engine. `progress` is told how many plan rows were
    done since it was last called. The change of a guided request is the mean of both branches.
    Raises `CalibrationError` (a single row, no requests, a pipeline that caches already) and `NumericalError`.
    """
    check_profile(plan, requests)
    check_uncached(pipeline)
    with attached(pipeline, work.blocks) as cache:
        parts = [
            _measure(pipeline, cache, plan, requests[start : start + batch], progress)
            for start in range(0, len(requests), batch)
        ]
    change = np.concatenate(parts)
    if not np.isfinite(change).all():
        bad = work.blocks[int(np.argwhere(~np.isfinite(change))[0, 2])]
        raise NumericalError(f"what block {bad!r} adds became NaN or infinite", "Calibrate in float32 or bfloat16")
    deviation = change.std(axis=0, ddof=1) if len(change) > 1 else np.zeros_like(change[0])
    return Profile(work, plan.timestep, change.mean(axis=0), deviation, len(change))


def check_profile(plan: Plan, requests: Sequence[Request]) -> None:
    """Raises `CalibrationError` where there is no change to measure: a single row, no requests."""
    if len(plan) < 2:
        raise CalibrationError("a single row has nothing to change from", "Calibrate with at least 2 steps")
    if not requests:
        raise CalibrationError("there are no requests to calibrate with", "Give at least one prompt and one seed")
    if len(set((plan.guidance != 1).tolist())) > 1:
        raise CalibrationError("guidance is off in some rows of the plan", "Calibrate with one guidance scale")


def check_uncached(pipeline: Pipeline) -> None:
    """Raises `CalibrationError` where the pipeline caches blocks already."""
    if pipeline.row_cache is not None:
        raise CalibrationError(f"{pipeline.name} caches blocks already", "Calibrate the model as it was loaded")


class ChangeMeter:
    """Follows the blocks: equation 6 for each network row of a batch, plan row after plan row.

    Called by a `RowCache` as its observer.
    """

    def __init__(self, blocks: int) -> None:
        self._last: list[torch.Tensor | None] = [None] * blocks
        self._changes: list[list[torch.Tensor]] = [[] for _ in range(blocks)]

    def __call__(self, block: int, value: torch.Tensor) -> None:
        """Compares what the block adds now, [n, ...], with what it added a row before."""
        last = self._last[block]
        if last is not None:
            self._changes[block].append(relative_change(last, value))
        self._last[block] = value

    def changes(self) -> Floats:
        """[n, N-1, B] after N rows."""
        stacked = torch.stack([torch.stack(rows) for rows in self._changes])
        return stacked.permute(2, 1, 0).to("cpu", torch.float64).numpy()


def relative_change(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Equation 6: [n] L1 norms of `after - before`, each over that of `before` [n, ...]; 0 where both are 0."""
    difference = (after.float() - before.float()).flatten(1).abs().sum(1)
    return difference / before.float().flatten(1).abs().sum(1).clamp_min(_SMALLEST)


@torch.inference_mode()
def _measure(
    pipeline: Pipeline, cache: RowCache, plan: Plan, requests: Sequence[Request], progress: Callable[[int], None] | None
) -> Floats:
    """[len(requests), N-1, B] changes of one batch, the mean of both branches where there are two."""
    cache.observer = meter = ChangeMeter(len(cache.blocks))

    def evaluate(row: int, rows: Rows) -> torch.Tensor:
        output = pipeline.denoise(rows)
        if progress is not None:
            progress(len(requests))
        return output

    Lockstep(pipeline, plan, pipeline.size(requests[0])).run(Start.of(pipeline, requests), evaluate)
    changes = meter.changes()  # conditional rows come first
    return changes.reshape(-1, len(requests), *changes.shape[1:]).mean(axis=0)
