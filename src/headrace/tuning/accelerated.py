"""A pipeline that carries out settings: the techniques joined, and put on and off again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from headrace.errors import ModelError, TuningError
from headrace.models.blocks import find_blocks
from headrace.models.pipelines.base import Pipeline
from headrace.models.row_cache import RowCache
from headrace.plan import Plan
from headrace.techniques.block_caching.schedule import Schedule, apply
from headrace.techniques.guidance.schedule import cut_off
from headrace.techniques.postdiff.network import deep_blocks, fill
from headrace.techniques.postdiff.schedule import mixed_resolution
from headrace.tuning.settings import Settings

Decide = Callable[[Plan], Plan]


@contextmanager
def accelerated(pipeline: Pipeline, settings: Settings, schedule: Schedule | None = None) -> Iterator[Decide]:
    """The pipeline as `attach` makes it, in this context; then it is as before."""
    decide = attach(pipeline, settings, schedule)
    try:
        yield decide
    finally:
        detach(pipeline)


def attach(pipeline: Pipeline, settings: Settings, schedule: Schedule | None = None) -> Decide:
    """Attaches one row cache for all blocks that the settings reuse, and returns what fills a plan's columns.

    `schedule` is that of the block cache, needed where `settings.block_saving` is not 0. Techniques that are off
    attach nothing and decide nothing: plain settings leave pipeline and plan as they are. Columns are filled in the
    order guidance, scale, compute, as each asks what those before decided.

    Raises, before anything is changed, `ModelError` for a pipeline that caches already or has no such blocks, and
    `TuningError` without a schedule that is needed.
    """
    if pipeline.row_cache is not None:
        raise ModelError(f"{pipeline.name} caches blocks already", "Remove the other cache first")
    if settings.block_saving > 0 and schedule is None:
        raise TuningError("the settings cache blocks, and there is no schedule for them", "Give the block cache's one")
    used = schedule if settings.block_saving > 0 else None
    blocks = (*(() if used is None else used.blocks), *module_blocks(pipeline, settings))
    cache = RowCache(pipeline.network, blocks, sources={"cross_attention": "conditional"}) if blocks else None
    pipeline.row_cache = cache

    def decide(plan: Plan) -> Plan:
        plan = cut_off(plan, settings.guidance_share)
        plan = mixed_resolution(plan, settings.low_share, settings.low_scale)
        if cache is None:
            return plan
        scheduled = plan if used is None else apply(plan, used)
        return fill(scheduled, cache, settings.deep_interval, settings.cross_share)

    return decide


def detach(pipeline: Pipeline) -> None:
    """Takes off what `attach` put on."""
    if pipeline.row_cache is not None:
        pipeline.row_cache.remove()
        pipeline.row_cache = None


def module_blocks(pipeline: Pipeline, settings: Settings) -> tuple[str, ...]:
    """Paths of the deep branch and the cross-attentions that the settings reuse. Raises `ModelError`: there is none."""
    settings = settings.canonical
    deep = deep_blocks(pipeline.network) if settings.deep_interval > 1 else ()
    cross = find_blocks(pipeline.network, "cross_attention") if settings.cross_share < 1 else ()
    if settings.cross_share < 1 and not cross:
        raise ModelError(f"{pipeline.name} has no cross-attention that rows could reuse", "Leave cross_share at 1")
    return (*deep, *cross)
