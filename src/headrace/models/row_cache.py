"""Caching row by row: in one call some rows evaluate a block and others reuse what an earlier row of theirs kept.

After Wimbauer et al., "Cache Me if You Can" (CVPR 2024); cross-attentions and deep branches as in PostDiff's hybrid
module caching. Values belong to requests: a `SlotCache` holds those of one request, and the rows of a call bring their
own. Between calls a network holds nothing. Which rows evaluate is known on the host before the call, so nothing waits
for the device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch

from headrace.errors import ModelError
from headrace.models.blocks import Kind, block_shape, is_block, kind_of
from headrace.models.branch_module import BranchModule
from headrace.models.branches import is_additive, is_branch, modules_of
from headrace.models.cached_block import CachedBlock
from headrace.models.denoiser import Rows
from headrace.models.nesting import check, nesting
from headrace.models.pipelines.base import LatentShape, Pipeline
from headrace.models.row_call import Adjustment, BlockObserver, RowCall, Source
from headrace.models.wrapper import Wrapper
from headrace.plan import Plan


class RowCache:
    """Wraps blocks of a network in its module tree, so that rows may reuse what a block added to an earlier row.

    Attributes:
        blocks: paths, in the order of the columns of a plan's `compute`; they may lie inside one another.
        kinds: of each block.
        sources: of each block, which guidance branch's value its rows reuse; all but "own" keep one value a request.
        inside: [B, B] True at [b, a] where block b lies inside block a.
        dtype: of the stored values; the network's own where None was given. bfloat16 halves the memory.
        adjustment: scale and shift wherever a transformer or ResNet block's value is reused (section 3.4), or None.
        adjusted: block -> its number among the transformer and ResNet blocks, those that an adjustment is for.
        columns_of: the columns of `compute` that decide on each block; one, but where techniques share the network.
        observer: is told what every evaluated block added, or None.

    `sources` may be given by path or by kind. Outside `evaluating` the network is what it was before. One call runs at
    a time. Raises `ModelError` for blocks that the network does not have, or that overlap without one being inside the
    other, before anything is changed.
    """

    def __init__(
        self,
        network: Any,
        blocks: Sequence[str],
        dtype: torch.dtype | None = None,
        sources: Mapping[str, Source] | None = None,
    ) -> None:
        self._network = network
        self.blocks = tuple(blocks)
        self.dtype = dtype or next(network.parameters()).dtype
        self.adjustment: Adjustment | None = None
        self.observer: BlockObserver | None = None
        self.call: RowCall | None = None
        self._check()
        self.inside = nesting(network, self.blocks)
        self.kinds: tuple[Kind, ...] = tuple(
            "branch" if is_branch(path) else kind_of(network.get_submodule(path)) for path in self.blocks
        )
        self.sources = self._sources(sources or {})
        residual = [number for number, kind in enumerate(self.kinds) if kind in ("transformer", "resnet")]
        self.adjusted = {number: place for place, number in enumerate(residual)}
        self._shaped = {path: network.get_submodule(modules_of(network, path)[-1]) for path in self.blocks}
        self._config = network.config
        self.columns_of: Sequence[Sequence[int]] = [(number,) for number in range(len(self.blocks))]
        self._wrapped: list[tuple[str, torch.nn.Module]] = []
        parts = [modules_of(network, path) for path in self.blocks]
        # From the inside out: a path leads to a module's place only while nothing around it is wrapped.
        for number in np.argsort(-self.inside.sum(axis=1), kind="stable").tolist():
            self._wrap(number, parts[number])

    def _check(self) -> None:
        modules: dict[str, Any] = dict(self._network.named_modules())
        for path in self.blocks:
            if isinstance(modules.get(path), Wrapper):
                raise ModelError(f"block {path!r} of the network is cached already", "Remove the other cache first")
            if is_branch(path):
                modules_of(self._network, path)  # raises where there is none
            elif path not in modules or not is_block(path, modules[path]):
                raise ModelError(
                    f"the {type(self._network).__name__} has no block {path!r} that can be cached",
                    "Take the paths from headrace.models.blocks.find_blocks",
                )
        if len(set(self.blocks)) != len(self.blocks):
            raise ModelError(f"a block is named twice in {list(self.blocks)}", "Name each block once")

    def _sources(self, asked: Mapping[str, Source]) -> tuple[Source, ...]:
        known = get_args(Source)
        for name, source in asked.items():
            if source not in known:
                raise ModelError(f"{source!r} is no source of cached values", f"Use one of {', '.join(known)}")
            if name not in self.blocks and name not in get_args(Kind):
                raise ModelError(
                    f"a source is given for {name!r}, which is not cached", "Name a cached block, or a kind"
                )
        pairs = zip(self.blocks, self.kinds, strict=True)
        return tuple(asked.get(path, asked.get(kind, "own")) for path, kind in pairs)

    def _wrap(self, number: int, paths: Sequence[str]) -> None:
        for path in paths:
            module = self._network.get_submodule(path)
            wrapper: Wrapper = CachedBlock(module, number, self)
            if self.kinds[number] == "branch":
                first, last = path == paths[0] and is_additive(self._network), path == paths[-1]
                wrapper = BranchModule(module, number, self, first, last)
            self._network.set_submodule(path, wrapper)
            self._wrapped.append((path, module))

    @property
    def width(self) -> int:
        """B: columns of `compute` that a plan for this cache has."""
        return len(self.blocks)

    def source_of(self, column: int) -> Source:
        """Which guidance branch's value rows reuse that decide by this column."""
        return self.sources[column]

    def dtype_of(self, column: int) -> torch.dtype:
        """Of the values that are stored for this column."""
        return self.dtype

    def adjustment_of(self, column: int) -> tuple[Adjustment, int] | None:
        """What adjusts values that are reused by this column, and the block's number in it; None where nothing does."""
        number = self.adjusted.get(column)
        return None if self.adjustment is None or number is None else (self.adjustment, number)

    @property
    def columns(self) -> frozenset[str]:
        """Columns of a plan that the blocks follow."""
        return frozenset({"compute", "keep", "timestep"})

    def remove(self) -> None:
        """Puts the blocks back where they were."""
        while self._wrapped:
            self._network.set_submodule(*self._wrapped.pop())

    def check(self, plan: Plan) -> None:
        """Raises `PlanError` where a plan of these blocks would reuse a value that was not kept."""
        check(plan, self.blocks, self.inside, self.sources)

    def nbytes(self, latent_shape: LatentShape, kept: npt.NDArray[np.bool_]) -> int:
        """Bytes of a request's values. `kept` is [branches, B]: whether a branch's value of a block is ever kept."""
        own = np.array([source == "own" for source in self.sources])
        shared = np.zeros_like(kept)
        shared[0] = kept.any(axis=0)
        return cache_bytes(self._config, self._shaped, latent_shape, np.where(own, kept, shared), self.dtype)

    def slot_bytes(self, latent_shape: LatentShape, branches: int) -> int:
        """Bytes of a request's values at most: those of every block kept in each guidance branch."""
        return self.nbytes(latent_shape, np.ones((branches, self.width), np.bool_))

    @contextmanager
    def evaluating(self, rows: Rows) -> Iterator[None]:
        """Around a call of the network: its blocks follow the `compute` and `keep` columns of these rows."""
        self.call = RowCall(rows, self)
        try:
            yield
        finally:
            self.call = None


@contextmanager
def attached(
    pipeline: Pipeline, blocks: Sequence[str], sources: Mapping[str, Source] | None = None
) -> Iterator[RowCache]:
    """The pipeline, which must have none, has a row cache of these blocks in this context, and is then as before."""
    cache = pipeline.row_cache = RowCache(pipeline.network, blocks, sources=sources)
    try:
        yield cache
    finally:
        cache.remove()
        pipeline.row_cache = None


def cache_bytes(
    config: Any,
    blocks: Mapping[str, torch.nn.Module],
    latent_shape: LatentShape,
    kept: npt.NDArray[np.bool_],
    dtype: torch.dtype,
) -> int:
    """Bytes that the values of one request take, from a configuration and blocks that may be on the meta device.

    `blocks` maps paths to blocks (a branch's to its last module), and `kept` is [values, B] in their order.
    """
    counts = kept.sum(axis=0).tolist()
    shapes = [block_shape(config, path, block, latent_shape) for path, block in blocks.items()]
    return sum(math.prod(shape) * dtype.itemsize * count for shape, count in zip(shapes, counts, strict=True))
