"""DeepCache: the deep part of a U-Net evaluated on some rows only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel

from headrace.benchmarks._peers.package import imported
from headrace.benchmarks._peers.peer import Uncached
from headrace.errors import HeadraceError
from headrace.plan import Plan


class DeepCache(Uncached):
    """DeepCache (Ma, Fang and Wang, CVPR 2024, arXiv:2312.00858) by the authors' package, DeepCache 0.1.1.

    Every `interval` rows (N in the paper) the whole network runs and the features that enter up-sampling step m are
    kept; on the rows between only the shallow layers around them run (equations 4 to 6). `branch` counts from 0 as the
    package does: 1 is the paper's skip branch 2, its choice for Stable Diffusion. The package numbers three
    branches a level, as two layers and a down-sampler make; where a level has one layer, its third number means the
    same as its second and evaluates the down-sampler for nothing. `centre` and `power` select the non-uniform
    strategy (equation 7; the paper settles on about 15 and 1.4 for 50 steps).

    The authors' switch (`DeepCacheSDHelper`) works with diffusers 0.42 and is what runs here; their own pipelines,
    where the non-uniform strategy lives, import names that diffusers no longer has. The switch knows uniform intervals
    alone and finds the row by looking its timestep up in a scheduler, so it is handed a stand-in that says for each
    row whether to refresh: that gives both strategies, and solvers whose timesteps repeat.

    Reported (SD 1.5, 512 px, 50 PLMS steps, RTX 2080, N = 5): 338.83 -> 130.45 GMAC a step, x2.15 with CLIP score 29.51
    -> 29.46 on PartiPrompts, x2.11 with 30.30 -> 30.23 on COCO 2017 (Table 3). Uniform, PartiPrompts, by N (Table 13):
    2: x1.45, 29.54; 3: x1.72, 29.50; 4: x2.01, 29.53; 5: x2.15, 29.41; 8: x2.53, 28.97; non-uniform 29.51, 29.59,
    29.57, 29.50, 29.26. Abstract: x2.3 for a CLIP score 0.05 lower.
    Counted here in the paper's way (no products of queries, keys and values): 338.6 GMAC, and 57.3 on a row that reuses
    with branch 1. So 130.45 is the mean of 13 whole steps of 50, which is N = 4; N = 5 comes to 113.5.

    Raises `HeadraceError` for settings out of range, or a missing package.
    """

    source = "Ma et al., CVPR 2024"
    claim = "N=5: x2.15, CLIP score 29.51 -> 29.46 (SD 1.5, 50 PLMS steps)"
    caches = True

    def __init__(self, interval: int = 3, branch: int = 1, centre: int | None = None, power: float = 1.4) -> None:
        super().__init__()
        if interval < 1 or branch < 0:
            raise HeadraceError(f"DeepCache with interval {interval} and branch {branch}", "From 1 and from 0 on")
        if power < 1 or (centre is not None and centre < 0):
            raise HeadraceError(f"DeepCache with centre {centre} and power {power}", "From 0 and from 1 on")
        self.interval, self.branch, self.centre, self.power = interval, branch, centre, power
        spacing = "" if centre is None else f", centre {centre}"
        self.name = f"DeepCache (N={interval}, branch {branch}{spacing})"
        self._package = imported("DeepCache")
        self._helper: Any = None
        self._scheduler = SimpleNamespace(timesteps=[])
        self._refreshes: frozenset[int] = frozenset()

    def refreshes(self, rows: int) -> tuple[int, ...]:
        """The rows on which the whole network runs."""
        if self.centre is None:
            return tuple(range(0, rows, self.interval))
        return non_uniform_rows(rows, -(-rows // self.interval), self.centre, self.power)

    def _check(self, network: UNet2DConditionModel, plan: Plan) -> None:
        levels = len(network.down_blocks)
        if self.branch >= 3 * levels:
            raise HeadraceError(f"branch {self.branch} of a network of {levels} levels", f"0 to {3 * levels - 1}")
        if self.centre is not None and self.centre >= len(plan):
            raise HeadraceError(f"centre {self.centre} is not one of {len(plan)} rows", "Name an earlier row")

    def _patch(self, network: UNet2DConditionModel, plan: Plan) -> None:
        self._refreshes = frozenset(self.refreshes(len(plan)))
        self._helper = self._package.DeepCacheSDHelper(SimpleNamespace(unet=network, scheduler=self._scheduler))
        # Position 0 of an interval of 2 is refreshed and position 1 is not: see `_evaluate`.
        self._helper.set_params(cache_interval=2, cache_branch_id=self.branch)
        self._helper.enable()

    def _unpatch(self, network: UNet2DConditionModel) -> None:
        self._helper.disable()
        self._helper = None

    def _start(self) -> None:
        self._helper.cached_output.clear()

    def _evaluate(
        self, row: int, sample: torch.Tensor, timestep: float, encoder_hidden_states: torch.Tensor
    ) -> torch.Tensor:
        told = torch.tensor(timestep, dtype=torch.float32).item()
        self._scheduler.timesteps = [told] if row in self._refreshes else [None, told]
        return super()._evaluate(row, sample, timestep, encoder_hidden_states)


def non_uniform_rows(rows: int, refreshes: int, centre: int, power: float) -> tuple[int, ...]:
    """Equation 7 of the paper: `refreshes` rows, the denser the nearer to `centre`, row 0 always among them.

    The power of a distance keeps its sign, and duplicates after rounding down are merged as in the paper, so that a few
    rows less may come out.
    """
    ends = np.array([-centre, rows - centre], dtype=np.float64)
    start, stop = np.sign(ends) * np.abs(ends) ** (1 / power)
    spaced = np.linspace(start, stop, refreshes, endpoint=False)
    distances = np.sign(spaced) * np.abs(spaced) ** power
    # A root and its power do not quite cancel: without the allowance a whole number may round down to the one below.
    indices = np.floor(distances + centre + 1e-9).astype(int)
    return tuple(sorted({0, *indices.clip(0, rows - 1).tolist()}))
