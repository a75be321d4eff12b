"""The variance-preserving process at discrete timesteps (DDPM, arXiv:2006.11239)."""

from __future__ import annotations

from typing import Any

import torch
from typing_extensions import override

from headrace.training.processes.process import Noised, Process


class VariancePreserving(Process):
    """x_t = alpha_t x_0 + sigma_t noise, alpha_t^2 + sigma_t^2 = 1, t uniform over the solver's training timesteps.

    `solver` is any variance-preserving one of diffusers. Its `prediction_type` is what is learnt: the noise, the
    velocity alpha_t noise - sigma_t x_0 (arXiv:2202.00512), or the data. Levels are timesteps, int64.
    """

    sampler = "ddim"

    def __init__(self, solver: Any, min_snr_gamma: float | None = None) -> None:
        super().__init__(solver)
        self.min_snr_gamma = min_snr_gamma

    @override
    def levels(self, uniform: torch.Tensor) -> torch.Tensor:
        steps = len(self.solver.alphas_cumprod)
        return (uniform * steps).long().clamp(max=steps - 1)

    @override
    def early(self, levels: torch.Tensor, share: float) -> torch.Tensor:
        return levels >= (1 - share) * len(self.solver.alphas_cumprod)

    @override
    def parts(self, levels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        alphas = self.solver.alphas_cumprod.to(levels.device)[levels]
        return alphas.sqrt(), (1 - alphas).sqrt()

    @override
    def noised(self, clean: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> Noised:
        kind = self.solver.config.prediction_type
        if kind == "v_prediction":
            target = self.solver.get_velocity(clean, noise, levels)
        else:
            target = noise if kind == "epsilon" else clean
        weight = min_snr_weights(self.solver, levels, self.min_snr_gamma)
        return Noised(self.solver.add_noise(clean, noise, levels), levels, target, weight)


def min_snr_weights(solver: Any, timesteps: torch.Tensor, gamma: float | None) -> torch.Tensor:
    """Weights [B] of the squared error: min(SNR, gamma) in data space, turned into the space that is predicted.

    arXiv:2303.09556, section 3.4; without a gamma the error of what is predicted counts as it is. `solver` is a
    variance-preserving one of diffusers, its `prediction_type` epsilon, v_prediction or sample.
    """
    if gamma is None:
        return torch.ones(len(timesteps), device=timesteps.device)
    alphas = solver.alphas_cumprod.to(timesteps.device)[timesteps].float()
    ratio = alphas / (1 - alphas)
    # min(SNR, gamma) / SNR, written so that it holds at SNR = 0 too (a schedule rescaled to zero terminal SNR).
    share = gamma / ratio.clamp(min=gamma)
    weights = {"epsilon": share, "v_prediction": share * ratio / (ratio + 1), "sample": share * ratio}
    return weights[solver.config.prediction_type]
