"""Stable Diffusion 1.5's U-Net with random weights, for measuring speed: it needs no download."""

from __future__ import annotations

import math

import torch
from diffusers import UNet2DConditionModel

PARAMETERS = 859_520_964
TOKENS, TEXT_WIDTH = 77, 768
FACTOR = 8  # pixels to a latent's edge

# unet/config.json of the published model, as far as it differs from the class's defaults.
CONFIG = {"sample_size": 64, "cross_attention_dim": TEXT_WIDTH, "attention_head_dim": 8}
_POOL = 16_777_259  # a prime, so that no matrix's rows line up with it


def sd15_unet(device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> UNet2DConditionModel:
    """The U-Net of Stable Diffusion 1.5 (Rombach et al. 2022), 859,520,964 parameters, in eval mode.

    Weights are uniform with the variance 1 / fan-in, out of one pool of random numbers that is read over and
    over: the same on every device, in a fraction of the time that drawing every number takes. Norms start as they do in
    training. Speed does not depend on the values, as long as they are finite and not denormal; pictures mean nothing.
    """
    with torch.device("meta"):
        network = UNet2DConditionModel.from_config(CONFIG)
    torch.nn.Module.to(network, dtype)  # diffusers' own `to` warns of layers to keep in float32, and here are none
    network = network.to_empty(device=device).eval().requires_grad_(False)
    pool = (torch.rand(_POOL, generator=torch.Generator().manual_seed(15)) * 2 - 1).to(device, dtype)
    at = 0
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif parameter.ndim == 1:
            parameter.fill_(1.0)
        else:
            at = _fill(parameter, pool, at)
    return network


def _fill(parameter: torch.Tensor, pool: torch.Tensor, at: int) -> int:
    """Writes values of the pool from position `at` on, scaled for the parameter's fan-in; returns where it stopped."""
    flat = parameter.view(-1)
    written = 0
    while written < len(flat):
        count = min(len(flat) - written, len(pool) - at)
        flat[written : written + count] = pool[at : at + count]
        written += count
        at = (at + count) % len(pool)
    fan_in = parameter[0].numel()
    parameter.mul_(math.sqrt(3.0 / fan_in))
    return at


def text_embeddings(rows: int, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Standard-normal numbers in place of CLIP's last hidden states, [rows, 77, 768], the same on every device."""
    generator = torch.Generator().manual_seed(768)
    return torch.randn((rows, TOKENS, TEXT_WIDTH), generator=generator).to(device, dtype)


def latents(rows: int, pixels: int, device: str | torch.device = "cpu") -> torch.Tensor:
    """Standard-normal first latents of square pictures, [rows, 4, pixels / 8, pixels / 8] float32."""
    generator = torch.Generator().manual_seed(pixels)
    return torch.randn((rows, 4, pixels // FACTOR, pixels // FACTOR), generator=generator).to(device)
