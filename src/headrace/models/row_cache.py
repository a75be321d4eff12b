"""Block caching row by row: in one call some rows evaluate a block and others reuse what it added before.

After Wimbauer et al., "Cache Me if You Can" (CVPR 2024). Values belong to requests: a `SlotCache` holds those of one
request, and the rows of a call bring their own. Between calls a network holds nothing. Which rows evaluate is known on
the host before the call, so nothing waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from headrace.errors import ModelError
from headrace.models.blocks import block_shape, is_block
from headrace.models.cached_block import CachedBlock
from headrace.models.denoiser import Rows
from headrace.models.pipelines.base import LatentShape, Pipeline
from headrace.models.row_call import Adjustment, BlockObserver, RowCall


class RowCache:
    """Wraps blocks of a network in its module tree, so that rows may reuse what a block added to an earlier row.

    Attributes:
        blocks: module paths, in the order of the columns of a plan's `compute`.
        dtype: of the stored values; the network's own where None was given. bfloat16 halves the memory.
        adjustment: scale and shift wherever a value is reused (section 3.4), or None.
        observer: is told what every evaluated block added, or None.

    Outside `evaluating` the network is what it was before. One call runs at a time.
    """

    def __init__(self, network: Any, blocks: Sequence[str], dtype: torch.dtype | None = None) -> None:
        self._network = network
        self.blocks = tuple(blocks)
        self.dtype = dtype or next(network.parameters()).dtype
        self.adjustment: Adjustment | None = None
        self.observer: BlockObserver | None = None
        self.call: RowCall | None = None
        self._check()
        self._originals = [network.get_submodule(path) for path in self.blocks]
        self._config = network.config
        for index, (path, block) in enumerate(zip(self.blocks, self._originals, strict=True)):
            network.set_submodule(path, CachedBlock(block, index, self))

    def _check(self) -> None:
        modules: dict[str, Any] = dict(self._network.named_modules())
        for path in self.blocks:
            if isinstance(modules.get(path), CachedBlock):
                raise ModelError(f"block {path!r} of the network is cached already", "Remove the other cache first")
            if path not in modules or not is_block(path, modules[path]):
                raise ModelError(
                    f"the {type(self._network).__name__} has no transformer or ResNet block {path!r}",
                    "Take the paths from headrace.models.blocks.find_blocks",
                )
        if len(set(self.blocks)) != len(self.blocks):
            raise ModelError(f"a block is named twice in {list(self.blocks)}", "Name each block once")

    @property
    def columns(self) -> frozenset[str]:
        """Columns of a plan that the blocks follow."""
        return frozenset({"compute", "keep", "timestep"})

    def remove(self) -> None:
        """Puts the blocks back where they were."""
        for path, block in zip(self.blocks, self._originals, strict=True):
            self._network.set_submodule(path, block)

    def nbytes(self, latent_shape: LatentShape, kept: npt.NDArray[np.bool_]) -> int:
        """Bytes of a request's values. `kept` is [branches, B]: whether a branch's value of a block is ever kept."""
        return cache_bytes(
            self._config, dict(zip(self.blocks, self._originals, strict=True)), latent_shape, kept, self.dtype
        )

    @contextmanager
    def evaluating(self, rows: Rows) -> Iterator[None]:
        """Around a call of the network: its blocks follow the `compute` and `keep` columns of these rows."""
        self.call = RowCall(rows, self.dtype, self.adjustment, self.observer)
        try:
            yield
        finally:
            self.call = None


@contextmanager
def attached(pipeline: Pipeline, blocks: Sequence[str]) -> Iterator[RowCache]:
    """The pipeline, which must have none, has a row cache of these blocks in this context, and is then as before."""
    cache = pipeline.row_cache = RowCache(pipeline.network, blocks)
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

    `blocks` maps module paths to blocks, and `kept` is [branches, B] in their order.
    """
    counts = kept.sum(axis=0).tolist()
    shapes = [block_shape(config, path, block, latent_shape) for path, block in blocks.items()]
    return sum(math.prod(shape) * dtype.itemsize * count for shape, count in zip(shapes, counts, strict=True))
