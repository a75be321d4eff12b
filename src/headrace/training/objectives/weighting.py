"""Weights of the squared error over timesteps."""

from __future__ import annotations

from typing import Any

import torch


def min_snr_weights(solver: Any, timesteps: torch.Tensor, gamma: float | None) -> torch.Tensor:
    """Weights [B] of the squared error: min(SNR, gamma) in data space, turned into the space that is predicted.

    arXiv:2303.09556, section 3.4; without a gamma the error of what is predicted counts as it is. `solver` is a
    variance-preserving one of diffusers, its `prediction_type` epsilon, v_prediction or sample.
    """
    if gamma is None:
        return torch.ones(len(timesteps), device=timesteps.device)
    alphas = solver.alphas_cumprod.to(timesteps.device)[timesteps].float()
    ratio = alphas / (1 - alphas)
    clamped = ratio.clamp(max=gamma)
    divisors = {"epsilon": ratio, "v_prediction": ratio + 1, "sample": torch.ones_like(ratio)}
    return clamped / divisors[solver.config.prediction_type]
