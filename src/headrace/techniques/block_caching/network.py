"""A pipeline whose blocks follow a cache schedule (Wimbauer et al. 2024, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from headrace.errors import ArtefactError, ModelError
from headrace.models.blocks import Kind, find_blocks
from headrace.models.pipelines.base import Pipeline
from headrace.models.pipelines.fingerprint import pipeline_fingerprint
from headrace.models.row_cache import RowCache
from headrace.plan import Plan
from headrace.techniques.block_caching.artefact import BlockCacheArtefact, solver_identity
from headrace.techniques.block_caching.scale_shift import FoldedScaleShift, ScaleShift, block_channels
from headrace.techniques.block_caching.scale_shift_file import find_scale_shift
from headrace.techniques.block_caching.schedule import apply


@dataclass(frozen=True)
class BlockCache:
    """A cache schedule and, where they were trained for it, scale and shift of what it reuses."""

    artefact: BlockCacheArtefact
    scale_shift: ScaleShift | None = None

    @classmethod
    def load(cls, path: str | Path) -> BlockCache:
        """A schedule's file and what lies beside it. Raises `ArtefactError`."""
        artefact = BlockCacheArtefact.load(path)
        return cls(artefact, find_scale_shift(Path(path), artefact))

    @property
    def identity(self) -> str:
        """A digest of what pictures depend on: the artefact's, followed by that of scale and shift if there are any."""
        own = self.artefact.identity
        return own if self.scale_shift is None else f"{own} {self.scale_shift.digest}"


def enable(
    pipeline: Pipeline,
    artefact: BlockCacheArtefact,
    dtype: torch.dtype | None = None,
    scale_shift: ScaleShift | None = None,
) -> Callable[[Plan], Plan]:
    """Attaches a row cache for the artefact's blocks and returns what fills a plan's `compute` column.

    `dtype` is that of the stored values (None: the network's; bfloat16 halves the memory of float32), `scale_shift`
    what reused values are adjusted by (None: nothing; `BlockCache.load` reads what lies beside the artefact's file).
    Pass the function that is returned to the engine as `decide`; it raises `ArtefactError` for a plan of another
    solver. Raises `ArtefactError`, before anything is changed, for an artefact or adjustment of another model or of
    other blocks, and `ModelError` where the pipeline caches already.
    """
    if pipeline.row_cache is not None:
        raise ModelError(f"{pipeline.name} caches blocks already", "Remove the other cache first")
    check_model(pipeline, artefact)
    if scale_shift is not None:
        check_channels(pipeline, artefact, scale_shift)
    pipeline.row_cache = RowCache(pipeline.network, artefact.blocks, dtype)
    schedule = artefact.schedule
    if scale_shift is not None:
        folded = FoldedScaleShift(scale_shift, schedule.timesteps, pipeline.device, pipeline.dtype)
        pipeline.row_cache.adjustment = folded

    def decide(plan: Plan) -> Plan:
        check_solver(plan, artefact)
        return apply(plan, schedule)

    return decide


def check_model(pipeline: Pipeline, artefact: BlockCacheArtefact) -> None:
    """Raises `ArtefactError` where the artefact was made for another model, or names blocks that it does not have."""
    found = pipeline_fingerprint(pipeline)
    if found != artefact.weights:
        raise ArtefactError(
            f"the cache schedule was made for {artefact.model}, weights {artefact.weights}, "
            f"and this is {pipeline.name}, weights {found}",
            "Calibrate this model: headrace calibrate blocks",
        )
    known = schedulable_blocks(pipeline)
    unknown = [block for block in artefact.blocks if block not in known]
    if unknown:
        raise ArtefactError(
            f"the cache schedule names block {unknown[0]!r}, and {pipeline.name} has none that is called so",
            "Calibrate this model: headrace calibrate blocks",
        )


def schedulable_blocks(pipeline: Pipeline) -> frozenset[str]:
    """Paths of everything that a schedule may decide on."""
    kinds: tuple[Kind, ...] = ("transformer", "resnet", "branch")
    return frozenset(block for kind in kinds for block in find_blocks(pipeline.network, kind))


def check_solver(plan: Plan, artefact: BlockCacheArtefact) -> None:
    """Raises `ArtefactError` where the artefact was made with another solver than the plan's."""
    if solver_identity(plan) != artefact.solver:
        own = artefact.solver_name or artefact.solver.split()[0]
        same = " (the same class, otherwise configured)" if plan.solver == artefact.solver.split()[0] else ""
        raise ArtefactError(
            f"the cache schedule was made with {own}, and the request's solver is {plan.solver}{same}",
            f"Ask for {own}, or calibrate with the other solver",
        )


def check_channels(pipeline: Pipeline, artefact: BlockCacheArtefact, scale_shift: ScaleShift) -> None:
    """Raises `ArtefactError` where scale and shift are of other blocks than the artefact's."""
    expected = block_channels(pipeline.network, artefact.blocks)
    if scale_shift.channels != expected:
        raise ArtefactError(
            f"scale and shift are for blocks of {list(scale_shift.channels)} channels, and the schedule's have "
            f"{list(expected)}",
            "Train them for this schedule: headrace calibrate scale-shift",
        )
