"""Task affinity: how alike the gradients of a trained network's loss are at different noise levels.

Go et al. (arXiv 2306.00354), section 3.2, and the paper's "gradient" method of Table 4.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from diffusers import UNet2DModel
from numpy.typing import NDArray
from torch import Tensor

from headrace.errors import CalibrationError

Floats = NDArray[np.float64]


def gradient_affinity(
    network: UNet2DModel,
    noise_levels: Tensor,
    images: Tensor,
    timesteps: list[int],
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Floats:
    """Cosines [G, G] of the gradients of the mean squared error of the noise prediction, at G timesteps.

    All are of the same `images` [B, C, h, w], in [-1, 1], and the same noise. `noise_levels` [T]: the product of the
    alphas of each timestep of the variance-preserving process that the network was trained for. Gradients stay in
    memory, G times the network's parameters; the network's own are left as they were. Raises `CalibrationError` for a
    timestep that there is not.
    """
    if not timesteps or min(timesteps) < 0 or max(timesteps) >= len(noise_levels):
        raise CalibrationError(
            f"timesteps {timesteps[:1]} to {timesteps[-1:]} are not among {len(noise_levels)}", "Use those of the model"
        )
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    network = copy.deepcopy(network).requires_grad_(True)
    parameters = list(network.parameters())
    directions = []
    for timestep in timesteps:
        product = noise_levels[timestep].float()
        noisy = product.sqrt() * images + (1 - product).sqrt() * noise
        told = torch.full((len(images),), timestep)
        with torch.enable_grad():
            loss = (network(noisy, told, return_dict=False)[0] - noise).square().mean()
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        directions.append(_direction(gradients))
        if progress is not None:
            progress(len(images))
    stacked = torch.stack(directions)
    return (stacked @ stacked.T).double().clamp_(-1, 1).numpy()


def _direction(gradients: tuple[Tensor | None, ...]) -> Tensor:
    """All gradients in one vector of length 1; parameters without one have no part in the loss."""
    flat = torch.cat([gradient.flatten() for gradient in gradients if gradient is not None])
    return flat / flat.norm().clamp(min=torch.finfo(flat.dtype).tiny)
