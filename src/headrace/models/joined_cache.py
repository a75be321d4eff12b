"""Several row caches of one network at once: requests of different techniques side by side in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from typing_extensions import override

from headrace.errors import PlanError
from headrace.models.pipelines.base import LatentShape
from headrace.models.row_cache import RowCache
from headrace.models.row_call import Adjustment, Source
from headrace.plan import Plan


class JoinedCache(RowCache):
    """The blocks of several caches, which are taken off before, wrapped once each.

    Plans have the columns of the first cache, then those of the second, and so on: `placed` puts them there. A plan
    follows one of the caches, and values are kept as that one keeps them. Where every row of a call follows the
    same one, the call is what it would be with that cache alone.

    Raises `ModelError`, before anything is changed, where blocks of two caches overlap and neither lies inside the
    other.
    """

    def __init__(self, network: Any, parts: Sequence[RowCache]) -> None:
        self._parts = tuple(parts)
        self._columns = [(part, column) for part in parts for column in range(part.width)]
        paths = [path for part in parts for path in part.blocks]
        super().__init__(network, tuple(dict.fromkeys(paths)))
        self.columns_of = [[column for column, path in enumerate(paths) if path == block] for block in self.blocks]

    @property
    @override
    def width(self) -> int:
        return len(self._columns)

    @override
    def source_of(self, column: int) -> Source:
        part, own = self._columns[column]
        return part.source_of(own)

    @override
    def dtype_of(self, column: int) -> torch.dtype:
        part, own = self._columns[column]
        return part.dtype_of(own)

    @override
    def adjustment_of(self, column: int) -> tuple[Adjustment, int] | None:
        part, own = self._columns[column]
        return part.adjustment_of(own)

    def placed(self, plan: Plan, part: RowCache) -> Plan:
        """A plan with the columns of one of the caches as one for all of them. One that decides on no blocks stays."""
        if not plan.blocks:
            return plan
        if plan.blocks != part.width:
            raise PlanError(
                f"the plan decides on {plan.blocks} blocks and its cache has {part.width}", "Fill every block's column"
            )
        compute = np.ones((len(plan), self.width), np.bool_)
        compute[:, self._slice(part)] = plan.compute
        return plan.with_columns(compute=compute)

    def _slice(self, part: RowCache) -> slice:
        first = sum(other.width for other in self._parts[: self._parts.index(part)])
        return slice(first, first + part.width)

    @override
    def check(self, plan: Plan) -> None:
        following = [part for part in self._parts if not plan.compute[:, self._slice(part)].all()]
        if len(following) > 1:
            raise PlanError("the plan reuses blocks by more than one cache", "Let a request follow one acceleration")
        for part in following:
            part.check(plan.with_columns(compute=plan.compute[:, self._slice(part)]))

    @override
    def nbytes(self, latent_shape: LatentShape, kept: npt.NDArray[np.bool_]) -> int:
        return sum(part.nbytes(latent_shape, kept[:, self._slice(part)]) for part in self._parts)

    @override
    def slot_bytes(self, latent_shape: LatentShape, branches: int) -> int:
        # A request follows one of them.
        return max(part.slot_bytes(latent_shape, branches) for part in self._parts)
