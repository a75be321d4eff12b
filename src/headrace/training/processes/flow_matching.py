"""Flow matching along straight paths from data to noise (arXiv:2210.02747, arXiv:2209.03003)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from typing_extensions import override

from headrace.training.processes.process import Noised, Process, broadcast, standard_normal

Times = Literal["uniform", "logit-normal"]


class FlowMatching(Process):
    """x_s = (1 - s) x_0 + s noise; learnt is the velocity noise - x_0. Levels are times s in [0, 1), float32.

    `times`: uniform, or the logit-normal distribution of arXiv:2403.03206 (section 3.1), whose logit has this `mean`
    and `deviation`. The network is told s times the solver's number of training timesteps. A `shift` in the solver's
    configuration concerns the steps of sampling alone.
    """

    sampler = "flow-euler"

    def __init__(self, solver: Any, times: Times = "uniform", mean: float = 0.0, deviation: float = 1.0) -> None:
        super().__init__(solver)
        self.times, self.mean, self.deviation = times, mean, deviation

    @override
    def levels(self, uniform: torch.Tensor) -> torch.Tensor:
        if self.times == "uniform":
            return uniform
        return torch.sigmoid(self.mean + self.deviation * standard_normal(uniform))

    @override
    def early(self, levels: torch.Tensor, share: float) -> torch.Tensor:
        shift = float(self.solver.config.shift)  # sampling spaces its times so (arXiv:2403.03206, equation 23)
        return levels >= shift * (1 - share) / (1 + (shift - 1) * (1 - share))

    @override
    def parts(self, levels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return 1 - levels, levels

    @override
    def noised(self, clean: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> Noised:
        time = broadcast(levels)
        return Noised(
            input=(1 - time) * clean + time * noise,
            timestep=levels * self.solver.config.num_train_timesteps,
            target=noise - clean,
            weight=torch.ones_like(levels),
        )
