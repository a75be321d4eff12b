"""Pipelines around networks of real configurations with random weights: the engine's speed without a download.

Prompts are encoded to the same random embeddings and the latents are not decoded, so what is timed is denoising alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, PixArtTransformer2DModel
from typing_extensions import override

from headrace.benchmarks._sd15 import TEXT_WIDTH, TOKENS, sd15_unet
from headrace.models.conditioning import Conditioning
from headrace.models.pipelines.text import PixArtPipeline, StableDiffusionPipeline
from headrace.request import Request

# transformer/config.json of PixArt-XL-2-512x512 (Chen et al. 2023), as far as it differs from the class's defaults.
PIXART = {"sample_size": 64, "num_layers": 28, "caption_channels": 4096, "use_additional_conditions": False}
PIXART_TOKENS, PIXART_TEXT_WIDTH = 120, 4096
_SD15_SOLVER = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
_PIXART_SOLVER = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}
_AUTOENCODER = SimpleNamespace(latent_channels=4, scaling_factor=0.18215, block_out_channels=(0,) * 4)


class BareStableDiffusion(StableDiffusionPipeline):
    """Stable Diffusion 1.5's U-Net and nothing else."""

    def __init__(self, device: str, dtype: torch.dtype = torch.float32) -> None:
        network = sd15_unet(device, dtype)
        super().__init__(_components(_SD15_SOLVER, unet=network), "SD 1.5, random weights")
        self._text = _random((TOKENS, TEXT_WIDTH), device, dtype)

    @override
    def encode(self, requests: Sequence[Request]) -> list[Conditioning]:
        text = {"encoder_hidden_states": self._text}
        return [Conditioning(text, text) for _ in requests]

    @override
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return _blank(latents)


class BarePixArt(PixArtPipeline):
    """PixArt-alpha's transformer (611M parameters) and nothing else."""

    def __init__(self, device: str, dtype: torch.dtype = torch.float32) -> None:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            torch.manual_seed(0)
            network = PixArtTransformer2DModel(**PIXART)
        torch.nn.Module.to(network, dtype)  # diffusers' own `to` warns of layers to keep in float32
        network = network.eval().requires_grad_(False)
        super().__init__(_components(_PIXART_SOLVER, transformer=network), "PixArt-alpha, random weights")
        self._text = _random((PIXART_TOKENS, PIXART_TEXT_WIDTH), device, dtype)

    @override
    def encode(self, requests: Sequence[Request]) -> list[Conditioning]:
        mask = torch.ones(PIXART_TOKENS, device=self._text.device)
        text = {"encoder_hidden_states": self._text, "encoder_attention_mask": mask}
        return [Conditioning(text, text) for _ in requests]

    @override
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return _blank(latents)


def _components(solver: dict[str, Any], **networks: torch.nn.Module) -> SimpleNamespace:
    return SimpleNamespace(
        **networks, vae=SimpleNamespace(config=_AUTOENCODER), scheduler=DPMSolverMultistepScheduler(**solver)
    )


def _random(shape: tuple[int, int], device: str, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(shape[1])).to(device, dtype)


def _blank(latents: torch.Tensor) -> torch.Tensor:
    """One black pixel a picture."""
    return torch.zeros((len(latents), 1, 1, 3), dtype=torch.uint8, device=latents.device)
