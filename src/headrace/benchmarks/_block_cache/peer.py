"""The block cache as a contestant among its peers."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import UNet2DConditionModel

from headrace.benchmarks._peers import Uncached
from headrace.models.denoiser import CONDITIONAL, UNCONDITIONAL, Rows
from headrace.models.row_cache import RowCache
from headrace.models.row_call import Adjustment
from headrace.models.slot_cache import SlotCache
from headrace.plan import Plan
from headrace.techniques.block_caching.schedule import Schedule, apply


class BlockCache(Uncached):
    """Block caching (Wimbauer et al., CVPR 2024) by `headrace.models.row_cache`, with or without scale-shift.

    Reported (Table 1, LDM-512, A100, with scale-shift): 20 steps x1.65 with FID 15.95 against 17.15 (DPM), x1.58 with
    16.02 against 17.43 (DDIM); 50 steps x1.82 with 15.18 against 17.44 and x1.79 with 15.15 against 17.76.
    """

    source = "Wimbauer et al., CVPR 2024"
    claim = "delta 0.5: x1.65, FID 17.15 -> 15.95 (LDM-512, 20 DPM steps)"
    caches = True

    def __init__(
        self, name: str, schedule: Schedule, adjustment: Adjustment | None = None, shared: RowCache | None = None
    ) -> None:
        """`shared` is a row cache of the schedule's blocks that the network has already, or None for an own one."""
        super().__init__()
        self.name = name
        self._schedule = schedule
        self._adjustment = adjustment
        self._shared = shared
        self._cache: RowCache | None = None
        self._plan: Plan | None = None
        self._slots: list[SlotCache] = []

    def _patch(self, network: UNet2DConditionModel, plan: Plan) -> None:
        self._plan = apply(plan, self._schedule)
        self._cache = self._shared or RowCache(network, self._schedule.blocks)
        self._cache.adjustment = self._adjustment

    def _unpatch(self, network: UNet2DConditionModel) -> None:
        if self._cache is not None and self._shared is None:
            self._cache.remove()
        self._cache, self._slots = None, []

    def _start(self) -> None:
        self._slots = []

    def _evaluate(
        self, row: int, sample: torch.Tensor, timestep: float, encoder_hidden_states: torch.Tensor
    ) -> torch.Tensor:
        assert self._cache is not None
        with self._cache.evaluating(self._rows(row, sample, timestep)):
            return super()._evaluate(row, sample, timestep, encoder_hidden_states)

    def _rows(self, row: int, sample: torch.Tensor, timestep: float) -> Rows:
        """Both branches of every request, one behind the other, with the decisions of this row of the plan."""
        assert self._plan is not None
        count, branches = len(sample), 2 if self._both_branches(row) else 1
        requests = count // branches
        self._slots = self._slots or [SlotCache() for _ in range(requests)]
        columns = {name: np.repeat(getattr(self._plan, name)[row][None], count, 0) for name in self._cache_columns}
        return Rows(
            sample=sample,
            timestep=torch.full((count,), timestep),
            conditioning={},
            branches=np.repeat(np.array([CONDITIONAL, UNCONDITIONAL], np.int8)[:branches], requests),
            columns=columns,
            caches=self._slots * branches,
        )

    @property
    def _cache_columns(self) -> frozenset[str]:
        assert self._cache is not None
        return self._cache.columns


def rhythm(blocks: tuple[str, ...], timesteps: np.ndarray, cached: int) -> Schedule:
    """The paper's printed example for the first `cached` blocks: "Input block 1 only computes the result at step 1, 6,
    10, 14 and 18" of 20 (Fig. 4), five of twenty, continued for longer trajectories. The others are always evaluated.
    """
    compute = np.ones((len(timesteps), len(blocks)), bool)
    compute[:, :cached] = False
    compute[[0, *range(5, len(timesteps), 4)]] = True
    return Schedule(blocks, timesteps, compute)
