"""A pipeline whose deep branch and cross-attentions may be reused: PostDiff's hybrid module caching."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from headrace.errors import ModelError
from headrace.models.blocks import find_blocks
from headrace.models.branches import default_branch, modules_of
from headrace.models.nesting import consistent
from headrace.models.pipelines.base import Pipeline
from headrace.models.row_cache import RowCache
from headrace.models.row_call import Source
from headrace.plan import Plan
from headrace.techniques.postdiff.module_schedule import INTERVAL, SHARE, check_interval, check_share, module_caching


def enable(
    pipeline: Pipeline,
    interval: int = INTERVAL,
    share: float = SHARE,
    branch: str | None = None,
    source: Source = "conditional",
    dtype: torch.dtype | None = None,
) -> Callable[[Plan], Plan]:
    """Attaches a row cache for a deep branch and the cross-attentions, and returns what fills a plan's `compute`.

    The branch (None: `default_branch`) is evaluated every `interval` rows, and cross-attention in the first `share` of
    them; from then on both guidance branches reuse the value that `source` names: PostDiff's is the conditional one,
    which guides best where the unconditional one is not even evaluated any more (supplement, Fig. 7). An interval or a
    share of 1 caches no branch or no cross-attention, so that nothing is kept for them. `dtype` is that of the kept
    values (None: the network's).

    Pass the function that is returned to the engine as `decide`. Raises, before anything is changed, `PlanError` for
    settings out of range and `ModelError` where the pipeline caches already, its network has no such branch, or there
    is nothing that these settings would cache.
    """
    check_interval(interval)
    check_share(share)
    if pipeline.row_cache is not None:
        raise ModelError(f"{pipeline.name} caches blocks already", "Remove the other cache first")
    deep = deep_blocks(pipeline.network, branch) if interval > 1 else ()
    cross = find_blocks(pipeline.network, "cross_attention") if share < 1 else ()
    blocks = (*deep, *cross)
    if not blocks:
        raise ModelError(
            f"with a deep branch every {interval} rows and cross-attention in {share:g} of them there is nothing of "
            f"{pipeline.name} to reuse",
            "Ask for an interval of 2 or more, or, of a model with cross-attention, for a share below 1",
        )
    pipeline.row_cache = RowCache(pipeline.network, blocks, dtype, {"cross_attention": source})
    return partial(fill, cache=pipeline.row_cache, interval=interval, share=share)


def fill(plan: Plan, cache: RowCache, interval: int = INTERVAL, share: float = SHARE) -> Plan:
    """`module_caching` for a cache that may hold other blocks too, made consistent where blocks lie inside others.

    What the plan decides already, as block caching leaves it, is of the blocks that come first in the cache, and stays:
    it may be a schedule of the branch itself. Raises as `module_caching` does.
    """
    decided = plan.compute
    compute = np.ones((len(plan), len(cache.blocks)), np.bool_)
    compute = module_caching(plan.with_columns(compute=compute), cache.blocks, interval, share).compute.copy()
    compute[:, : decided.shape[1]] = decided
    return plan.with_columns(compute=consistent(compute, cache.inside))


def deep_blocks(network: torch.nn.Module, branch: str | None = None) -> tuple[str]:
    """The path of the network's branch, in a tuple. Raises `ModelError` where it has none, or not this one."""
    path = default_branch(network) if branch is None else branch
    modules_of(network, path)
    return (path,)
