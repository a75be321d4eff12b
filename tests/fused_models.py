"""Tiny random models whose networks evaluate several images at once, of the classes that real ones have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import DDIMScheduler, DDPMPipeline, LDMPipeline, StableDiffusionPipeline

from headrace.techniques.fusebatch.autoencoder import FuseBatchAutoencoderKL
from headrace.techniques.fusebatch.network import FuseBatchUNet2DModel
from headrace.techniques.fusebatch.text_network import FuseBatchUNet2DConditionModel
from tiny_models import STABLE_DIFFUSION_BETAS
from tiny_networks import TEXT_WIDTH, TOKENS, autoencoder, clip_text_model, clip_tokenizer, pixel_unet, text_unet

# A random network leaves the noise where it is; with these the pictures are not all black and white.
BETAS = {"beta_start": 0.0001, "beta_end": 0.002}


@torch.no_grad()
def fused_unet(factors: Sequence[int], policy: list[list[float]] | None = None, **options: object):
    """Random networks for these K's, whose outputs have a useful spread."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        plain = pixel_unet(**options)
        settings = {name: value for name, value in plain.config.items() if not name.startswith("_")}
        network = FuseBatchUNet2DModel(list(factors), settings, policy=policy).eval().requires_grad_(False)
        size, channels = plain.config.sample_size, plain.config.in_channels
        for k in factors:
            labels = torch.zeros(2 * k, dtype=torch.long) if plain.config.num_class_embeds else None
            _spread(network, k, network(torch.randn(2 * k, channels, size, size), 500, labels, fusion=k).sample)
    return network


@torch.no_grad()
def fused_text_unet(factors: Sequence[int], policy: list[list[float]] | None = None, **options: object):
    """As `fused_unet`, for latents of 8x8 and prompts; K = 1 has the weights of a `text_unet`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        plain = text_unet(**options)
        network = FuseBatchUNet2DConditionModel(list(factors), dict(plain.config), policy=policy)
        network.eval().requires_grad_(False)
        for k in factors:
            if k == 1:
                network.networks["1"].load_state_dict(plain.state_dict())
            else:
                latents, text = torch.randn(2 * k, 4, 8, 8), torch.randn(2 * k, TOKENS, TEXT_WIDTH)
                _spread(network, k, network(latents, 500, text, fusion=k).sample)
    return network


def _spread(network: torch.nn.Module, k: int, produced: torch.Tensor) -> None:
    last = network.networks[str(k)].conv_out if k == 1 else network.networks[str(k)].head.projection
    last.bias.zero_()
    last.weight.mul_(0.5 / produced.std())


def pixel_model(folder: Path, factors: Sequence[int], scheduler=None, policy=None, **options: object) -> Path:
    """A folder with networks for these K's that denoise 16x16 pixels."""
    unet = fused_unet(factors, policy, **options)
    DDPMPipeline(unet, scheduler or DDIMScheduler(**BETAS)).save_pretrained(folder)
    return folder


def text_components(unet: torch.nn.Module) -> StableDiffusionPipeline:
    """The parts of a tiny Stable Diffusion around this network."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(10)
        scheduler = DDIMScheduler(**STABLE_DIFFUSION_BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
        parts = autoencoder(), clip_text_model(), clip_tokenizer(), unet, scheduler, None, None
        return StableDiffusionPipeline(*parts, requires_safety_checker=False)


def text_model(folder: Path, unet: torch.nn.Module) -> Path:
    """The folder of a tiny Stable Diffusion with this network."""
    text_components(unet).save_pretrained(folder)
    return folder


def latent_model(folder: Path, k: int) -> Path:
    """A folder whose autoencoder makes K pictures of one latent; its network is a plain U-Net."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(8)
        names = ("block_out_channels", "down_block_types", "up_block_types", "layers_per_block", "latent_channels",
                 "norm_num_groups", "sample_size")  # fmt: skip
        settings = autoencoder().config
        vae = FuseBatchAutoencoderKL(k, **{name: settings[name] for name in names})
        unet = pixel_unet(sample_size=8, in_channels=4, out_channels=4)
    LDMPipeline(vae, unet, DDIMScheduler(**BETAS)).save_pretrained(folder)
    return folder
