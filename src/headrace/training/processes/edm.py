"""The process of EDM: data plus noise, a preconditioned network, log-normal noise levels (arXiv:2206.00364)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from typing_extensions import override

from headrace.training.processes.process import Noised, Process, broadcast, standard_normal

# Steps that place a share of denoising among the noise levels.
_FINE = 1000


class EDM(Process):
    """x = x_0 + sigma noise, ln sigma ~ N(mean, deviation^2). Levels are sigmas, float32.

    The network F answers c_in x at c_noise, and D(x) = c_skip x + c_out F is the data that is predicted (equation 7).
    The paper weights |D - x_0|^2 by lambda = 1 / c_out^2, which makes the weight of |F - (x_0 - c_skip x) / c_out|^2
    exactly 1 at every noise level (equation 8, and table 1). The coefficients are asked of the solver itself, so what
    is learnt is what it samples.
    """

    sampler = "edm-dpm++2m"

    def __init__(self, solver: Any, mean: float = -1.2, deviation: float = 1.2) -> None:
        super().__init__(solver)
        self.mean, self.deviation = mean, deviation

    @override
    def levels(self, uniform: torch.Tensor) -> torch.Tensor:
        return (self.mean + self.deviation * standard_normal(uniform)).exp()

    @override
    def early(self, levels: torch.Tensor, share: float) -> torch.Tensor:
        solver = copy.deepcopy(self.solver)
        solver.set_timesteps(_FINE)  # the noise levels that it samples at, densely
        return levels >= solver.sigmas[round(share * _FINE)].to(levels.device)

    @override
    def parts(self, levels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.ones_like(levels), levels

    @override
    def noised(self, clean: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> Noised:
        sigma = broadcast(levels)
        noisy = clean + sigma * noise
        c_skip, c_out = self.output_coefficients(sigma)
        target = (clean - c_skip * noisy) / c_out
        return Noised(
            input=self.solver.precondition_inputs(noisy, sigma),
            timestep=self.solver.precondition_noise(levels),
            target=target,
            weight=torch.ones_like(levels),
        )

    def output_coefficients(self, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """c_skip and c_out of the solver, of the shape of `sigma`."""
        one, zero = torch.ones_like(sigma), torch.zeros_like(sigma)
        return self.solver.precondition_outputs(one, zero, sigma), self.solver.precondition_outputs(zero, one, sigma)
