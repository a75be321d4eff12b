"""What fusion adds to a network, and what it takes from the work of an image: counted, without weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DModel

from headrace.benchmarks._fusebatch.networks import Configuration
from headrace.models.macs import count_macs
from headrace.techniques.fusebatch.autoencoder import FuseBatchAutoencoderKL
from headrace.techniques.fusebatch.network import FuseBatchUNet2DModel


@dataclass(frozen=True)
class Size:
    """Of a network, or of one and the autoencoder below it: parameters, and those that each K adds.

    `macs`: of one image's evaluation, without attention's products, as the papers count; `mac_ratios`: by K, the share
    of it that an image costs. `decoder_ratios`: the same of a decoded image with FB-AE.
    """

    parameters: int
    overhead: dict[str, int]
    macs: int
    mac_ratios: dict[str, float]
    autoencoder_overhead: dict[str, int]
    decoder_ratios: dict[str, float]


def measure_size(configuration: Configuration) -> Size:
    """K = 2 and 4 beside vanilla."""
    with torch.device("meta"):
        vanilla = UNet2DModel(**configuration.unet)
        fused = {f"k{factor}": FuseBatchUNet2DModel([factor], configuration.unet) for factor in (2, 4)}
        macs = _evaluation(vanilla, 1)
        ratios = {name: _evaluation(one, one.factors[0]) / macs for name, one in fused.items()}
        sizes: dict[str, int] = {}
        decoders: dict[str, float] = {}
        if configuration.autoencoder:
            plain = AutoencoderKL(**configuration.autoencoder)
            for factor in (2, 4):
                one = FuseBatchAutoencoderKL(factor, **configuration.autoencoder)
                sizes[f"k{factor}"] = _parameters(one) - _parameters(plain)
                decoders[f"k{factor}"] = _decoding(one, configuration, factor) / _decoding(plain, configuration, 1)
    overhead = {name: _parameters(one) - _parameters(vanilla) for name, one in fused.items()}
    return Size(_parameters(vanilla), overhead, int(macs), ratios, sizes, decoders)


def _parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _evaluation(network: Any, images: int) -> float:
    side = network.config.sample_size
    sample = torch.zeros(images, network.config.in_channels, side, side)
    counted = count_macs(lambda: network(sample, torch.zeros(())))
    return (counted.total - counted.attention) / images


def _decoding(autoencoder: Any, configuration: Configuration, images: int) -> float:
    side = configuration.unet["sample_size"]
    latents = torch.zeros(1, autoencoder.config.latent_channels, side, side)
    counted = count_macs(lambda: autoencoder.decode(latents))
    return (counted.total - counted.attention) / images
