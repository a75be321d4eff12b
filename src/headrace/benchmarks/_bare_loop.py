"""The loop that every tutorial has, to time a training loop against: forward, backward, step, and nothing else."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional


class BareLoop:
    """Trains a network to predict the noise in one batch of pictures, which stand ready as tensors on its device.

    It draws noise and timesteps, computes the mean squared error and moves the weights with fused AdamW. It has no data
    order, no flips, no average of the weights, no clipping, no learning rate schedule, no look at the loss, no log and
    no checkpoints.
    """

    def __init__(self, network: torch.nn.Module, solver: Any, images: torch.Tensor, dtype: torch.dtype | None) -> None:
        self.network, self.solver, self.images, self.dtype = network, solver, images, dtype
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)

    def step(self) -> None:
        """One update of the weights."""
        device = self.images.device
        noise = torch.randn_like(self.images)
        timesteps = torch.randint(0, len(self.solver.alphas_cumprod), (len(self.images),), device=device)
        noisy = self.solver.add_noise(self.images, noise, timesteps)
        with torch.autocast(device.type, dtype=self.dtype, enabled=self.dtype is not None):
            output = self.network(noisy, timesteps, return_dict=False)[0]
        functional.mse_loss(output.float(), noise).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
