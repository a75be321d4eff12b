"""The paper's networks (its Table 4) with random weights as pipelines, and its figures of them (Tables 1, 3, 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    FlowMatchEulerDiscreteScheduler,
    LDMPipeline,
    UNet2DModel,
)

from headrace.models.pipelines.base import Pipeline
from headrace.models.pipelines.latent import LatentDiffusionPipeline
from headrace.models.pipelines.parts import quiet
from headrace.models.pipelines.pixel import PixelPipeline
from headrace.techniques.fusebatch.autoencoder import FuseBatchAutoencoderKL
from headrace.techniques.fusebatch.network import FuseBatchUNet2DModel

_LEVEL = "DownEncoderBlock2D", "UpDecoderBlock2D"


@dataclass(frozen=True)
class Configuration:
    """A U-Net, the autoencoder below it if it has one, the paper's throughput over vanilla, and the solver."""

    name: str
    unet: Mapping[str, Any]
    paper: Mapping[str, float]
    autoencoder: Mapping[str, Any] = field(default_factory=dict)
    solver: type = DDIMScheduler


CIFAR10 = Configuration(
    "CIFAR-10, 32 px",
    {
        "sample_size": 32,
        "block_out_channels": (128, 256, 256, 256),
        "layers_per_block": 2,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 256,
        "downsample_padding": 0,
    },
    {"k2": 1.85, "k4": 3.49, "tfs": 1.94},
)
# 54.3M parameters where the paper's has 55.7M (recipes/cifar10-flow-matching.toml).
FLOW_MATCHING = Configuration(
    "CIFAR-10, flow matching",
    {
        "sample_size": 32,
        "block_out_channels": (256, 256, 256),
        "layers_per_block": 4,
        "time_embedding_dim": 512,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 256,
    },
    {"k2": 1.90, "k4": 3.44, "tfs": 1.91},
    solver=FlowMatchEulerDiscreteScheduler,
)
CELEBA = Configuration(
    "CelebA, 64 px",
    {
        "sample_size": 64,
        "block_out_channels": (128, 128, 256, 256, 512, 512),
        "layers_per_block": 2,
        "down_block_types": (*("DownBlock2D",) * 4, "AttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "AttnUpBlock2D", *("UpBlock2D",) * 4),
        "attention_head_dim": 8,
    },
    {"k2": 1.80, "k4": 3.30, "tfs": 1.87},
)
_LATENT_UNET = {
    "sample_size": 64,
    "block_out_channels": (224, 448, 672, 896),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", *("AttnDownBlock2D",) * 3),
    "up_block_types": (*("AttnUpBlock2D",) * 3, "UpBlock2D"),
    "attention_head_dim": 32,
}
_AUTOENCODER = {
    "down_block_types": _LEVEL[:1] * 3,
    "up_block_types": _LEVEL[1:] * 3,
    "block_out_channels": (128, 256, 512),
    "layers_per_block": 2,
    "latent_channels": 3,
    "sample_size": 256,
}
_LATENT_PAPER = {"fbae_k2": 2.00, "fbae_k4": 4.00, "fbunet_k2": 1.98}
CELEBA_HQ = Configuration("CelebA-HQ, 256 px, latent", _LATENT_UNET, _LATENT_PAPER, _AUTOENCODER)
# About a sixth of the work, and pictures of 64 px.
SMALL_LATENT = Configuration(
    "latent, 64 px, less than half as wide",
    _LATENT_UNET | {"sample_size": 16, "block_out_channels": (96, 192, 288, 384)},
    _LATENT_PAPER,
    _AUTOENCODER | {"sample_size": 64, "block_out_channels": (64, 128, 256)},
)


def pixel_pipeline(configuration: Configuration, factors: Sequence[int], device: str, dtype: torch.dtype) -> Pipeline:
    """A model with a network for each of these K."""
    torch.manual_seed(0)
    network = FuseBatchUNet2DModel(list(factors), configuration.unet)
    return PixelPipeline(DDPMPipeline(_ready(network, device, dtype), configuration.solver()), configuration.name)


def latent_pipelines(configuration: Configuration, device: str, dtype: torch.dtype) -> dict[str, Pipeline]:
    """Vanilla, FB-AE at K = 2 and 4 on the same latent network, and FB-UNet at K = 2 with the vanilla autoencoder."""
    torch.manual_seed(0)
    unet = _ready(UNet2DModel(**configuration.unet), device, dtype)
    vanilla = _ready(AutoencoderKL(**configuration.autoencoder), device, dtype)
    fused = {
        f"fbae_k{factor}": _ready(FuseBatchAutoencoderKL(factor, **configuration.autoencoder), device, dtype)
        for factor in (2, 4)
    }
    fused_unet = _ready(FuseBatchUNet2DModel([2], configuration.unet), device, dtype)
    pairs = {"vanilla": (vanilla, unet), **{name: (one, unet) for name, one in fused.items()}}
    pairs["fbunet_k2"] = vanilla, fused_unet
    return {
        name: LatentDiffusionPipeline(LDMPipeline(*pair, DDIMScheduler(clip_sample=False)), name)
        for name, pair in pairs.items()
    }


def _ready(network: Any, device: str, dtype: torch.dtype) -> Any:
    with quiet():  # diffusers advises against changing the type of weights, which are random here
        return network.eval().requires_grad_(False).to(device, dtype)
