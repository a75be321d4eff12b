"""T-GATE: no cross-attention and no second branch after the gate."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel

from headrace.benchmarks._peers.package import imported
from headrace.benchmarks._peers.peer import Uncached
from headrace.errors import HeadraceError
from headrace.plan import Plan


class TGate(Uncached):
    """T-GATE (Liu, Zhang et al. 2024, arXiv:2404.02747) by the authors' package, tgate 1.0.0.

    On row `gate` - 1 (the m-th step of the paper) every cross-attention's output is kept, the mean over both branches
    of guidance (equation 6). From row `gate` on it stands in for cross-attention, and the unconditional branch is
    dropped, so a row costs less than half. Before the gate, self-attention may be reused: after `warm_up` rows it is
    computed only on every `interval`-th row (k of the paper; 1: on all, its recipe for SD 1.5 and 2.1, Table 2).

    The package's pipelines repeat those of an older diffusers, but the two functions that they rest on, the schedule
    and the attention that caches, work with diffusers 0.42 and are what runs here. They replace `forward` on every
    attention whenever told; they are told here only where the decision changes.

    Reported (Table 2; 25 steps, one picture on a GTX 1080 Ti, FID on MS-COCO): SD 1.5 with m = 5: 16.938 -> 9.875 TMAC,
    7.032 -> 4.313 s (x1.63), FID 23.927 -> 20.789; m = 10: 11.641 TMAC, 4.993 s (x1.41), FID 23.269. SD 2.1 with
    m = 5: 16.121 -> 9.878 s (x1.63), 22.609 -> 19.940; SDXL with m = 5, k = 3: 53.187 -> 27.412 s (x1.94), 24.628 ->
    22.306. Within PAB's comparison (arXiv:2408.12588, Table 1, Open-Sora): x1.19, PSNR 15.50, SSIM 0.676.
    Counted here in the paper's way: 16.931 TMAC, 9.873 with m = 5 and 11.637 with m = 10.

    Raises `HeadraceError` for settings out of range, or a missing package.
    """

    source = "Liu et al. 2024, arXiv:2404.02747"
    claim = "m=5 of 25 steps: x1.63, FID 23.93 -> 20.79; m=10: x1.41, 23.27 (SD 1.5)"
    caches = True

    def __init__(self, gate: int, interval: int = 1, warm_up: int = 2) -> None:
        super().__init__()
        if gate < 1 or interval < 1 or warm_up < 0:
            raise HeadraceError(
                f"T-GATE with gate {gate}, interval {interval} and warm-up {warm_up}", "From 1, 1 and 0 on"
            )
        self.gate, self.interval, self.warm_up = gate, interval, warm_up
        self.name = f"T-GATE (m={gate}{f', k={interval}' if interval > 1 else ''})"
        self._package = imported("tgate.tgate_utils")
        self._told: Any = None

    def _check(self, network: UNet2DConditionModel, plan: Plan) -> None:
        if (plan.guidance == 1.0).any():
            raise HeadraceError("T-GATE drops the unconditional branch, and this plan has none", "Guide every row")

    def _both_branches(self, row: int) -> bool:
        return row < self.gate

    def _start(self) -> None:
        self._told = None

    def _unpatch(self, network: UNet2DConditionModel) -> None:
        self._told = None

    def _evaluate(
        self, row: int, sample: torch.Tensor, timestep: float, encoder_hidden_states: torch.Tensor
    ) -> torch.Tensor:
        decision = self._package.tgate_scheduler(
            cur_step=row, gate_step=self.gate, sp_interval=self.interval, fi_interval=1, warm_up=self.warm_up
        )
        if decision != self._told:
            cross, own, keep_shape = decision
            self._package.register_forward(self._network, ca_kward=cross, sa_kward=own, keep_shape=keep_shape)
            self._told = decision
        return super()._evaluate(row, sample, timestep, encoder_hidden_states)
