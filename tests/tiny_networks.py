"""Tiny random networks, text encoders and tokenizers, of the classes that the published models are made of.

Output layers are scaled so that a network's output and a decoder's picture have a useful spread: a raw random net gives
nearly constant pictures, and comparing those would prove nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DiTTransformer2DModel,
    PixArtTransformer2DModel,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

TOKENS = 12
TEXT_WIDTH = 16
BOS, EOS = "<|startoftext|>", "<|endoftext|>"


# Networks

# The configuration of a U-Net that is as small as can be, where pictures do not matter.
NARROW_UNET = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D",) * 2,
    "up_block_types": ("UpBlock2D",) * 2,
    "norm_num_groups": 4,
}
TEXT_UNET = {
    "sample_size": 8,
    "layers_per_block": 1,
    "block_out_channels": (16, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "norm_num_groups": 8,
    "attention_head_dim": 2,
    "cross_attention_dim": TEXT_WIDTH,
}


def _spread(module: torch.nn.Module, last: torch.nn.Module, output: Callable[[], torch.Tensor], std: float) -> None:
    """Scales the layer `last` of `module` so that `output()` has mean 0 and this standard deviation."""
    module.eval()
    last.bias.zero_()
    produced = output()
    last.weight.mul_(std / produced.std())
    last.bias.sub_(output().mean(dim=(0, 2, 3)).repeat_interleave(last.bias.numel() // produced.shape[1]))


def pixel_unet(**options: object) -> UNet2DModel:
    settings = {
        "sample_size": 16,
        "in_channels": 3,
        "out_channels": 3,
        "layers_per_block": 1,
        "block_out_channels": (16, 32),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "norm_num_groups": 8,
        "attention_head_dim": 8,
    }
    unet = UNet2DModel(**(settings | options))
    size, channels = unet.config.sample_size, unet.config.in_channels
    labels = torch.zeros(2, dtype=torch.long) if unet.config.num_class_embeds else None
    sample = torch.randn(2, channels, size, size)
    _spread(unet, unet.conv_out, lambda: unet(sample, 500, class_labels=labels).sample, 0.5)
    return unet


def text_unet(**options: object) -> UNet2DConditionModel:
    unet = UNet2DConditionModel(**(TEXT_UNET | options))
    sample, text = torch.randn(2, 4, 8, 8), torch.randn(2, TOKENS, unet.config.cross_attention_dim)
    added = {"text_embeds": torch.randn(2, TEXT_WIDTH), "time_ids": torch.tensor([[64, 64, 0, 0, 64, 64.0]] * 2)}
    _spread(unet, unet.conv_out, lambda: unet(sample, 500, text, added_cond_kwargs=added).sample, 0.5)
    return unet


def autoencoder(**options: object) -> AutoencoderKL:
    blocks = 4
    settings = {
        "block_out_channels": (8, 8, 16, 16),
        "down_block_types": ("DownEncoderBlock2D",) * blocks,
        "up_block_types": ("UpDecoderBlock2D",) * blocks,
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "sample_size": 64,
    }
    vae = AutoencoderKL(**(settings | options))
    latents = torch.randn(2, 4, 8, 8) / vae.config.scaling_factor
    _spread(vae, vae.decoder.conv_out, lambda: vae.decode(latents).sample, 0.4)
    return vae


def quantised_autoencoder() -> VQModel:
    vqvae = VQModel(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=3,
        num_vq_embeddings=32,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=1.0,
    )
    vqvae.quantize.embedding.weight.normal_()
    latents = torch.randn(2, 3, 8, 8)
    _spread(vqvae, vqvae.decoder.conv_out, lambda: vqvae.decode(latents).sample, 0.4)
    return vqvae


def _wake(transformer: torch.nn.Module) -> None:
    """Random values where a transformer starts at nearly zero, so that timestep and condition matter to its output."""
    for name, parameter in transformer.named_parameters():
        if "norm1.linear" in name or "adaln_single.linear" in name:
            parameter.normal_(std=0.1)


def dit_transformer() -> DiTTransformer2DModel:
    transformer = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=1000,
        norm_num_groups=8,
    )
    _wake(transformer)
    sample, labels, timestep = torch.randn(2, 4, 8, 8), torch.tensor([1, 2]), torch.tensor([500, 500])
    output = lambda: transformer(sample, timestep, class_labels=labels).sample  # noqa: E731
    _spread_linear(transformer, transformer.proj_out_2, output)
    return transformer


def pixart_transformer(sample_size: int = 8) -> PixArtTransformer2DModel:
    transformer = PixArtTransformer2DModel(
        num_attention_heads=3 if sample_size == 128 else 2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=sample_size,
        patch_size=2,
        cross_attention_dim=24 if sample_size == 128 else 16,
        caption_channels=TEXT_WIDTH,
        norm_num_groups=8,
    )
    _wake(transformer)
    sample, text, timestep = torch.randn(2, 4, 8, 8), torch.randn(2, TOKENS, TEXT_WIDTH), torch.tensor([500, 500])
    added = {"resolution": torch.tensor([[64.0, 64.0]] * 2), "aspect_ratio": torch.ones(2, 1)}
    output = lambda: transformer(sample, text, timestep, added_cond_kwargs=added).sample  # noqa: E731
    _spread_linear(transformer, transformer.proj_out, output)
    return transformer


def _spread_linear(module: torch.nn.Module, last: torch.nn.Linear, output: Callable[[], torch.Tensor]) -> None:
    module.eval()
    last.bias.zero_()
    last.weight.mul_(0.5 / output().std())


# Text


def _clip_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    alphabet = sorted(ByteLevel.alphabet())
    merges = [("r", "e"), ("re", "d</w>"), ("a", "p"), ("l", "e</w>"), ("ap", "p"), ("app", "le</w>")]
    tokens = alphabet + [f"{letter}</w>" for letter in alphabet] + ["".join(pair) for pair in merges] + [BOS, EOS]
    return {token: index for index, token in enumerate(tokens)}, merges


def clip_tokenizer(pad_token: str = EOS) -> CLIPTokenizer:
    vocabulary, merges = _clip_vocabulary()
    return CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token=pad_token, model_max_length=TOKENS)


def as_vocabulary_files(folder: Path) -> None:
    """The layout of the published Stable Diffusion 1.x folders: vocab.json and merges.txt, no tokenizer.json."""
    vocabulary, merges = _clip_vocabulary()
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "tokenizer.json").unlink()


def clip_config(**options: object) -> CLIPTextConfig:
    vocabulary, _ = _clip_vocabulary()
    settings = {
        "vocab_size": len(vocabulary),
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": TOKENS,
        "projection_dim": TEXT_WIDTH,
        "bos_token_id": vocabulary[BOS],
        "eos_token_id": vocabulary[EOS],
        "pad_token_id": vocabulary[EOS],
        "initializer_factor": 5.0,
    }
    return CLIPTextConfig(**(settings | options))


def clip_text_model(**options: object) -> CLIPTextModel:
    return CLIPTextModel(clip_config(**options)).eval()


def t5_tokenizer() -> T5Tokenizer:
    pieces = ["▁", *"abcdefghijklmnopqrstuvwxyz0123456789,.", "▁a", "▁the", "▁red", "▁apple", "▁blue"]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [(piece, -2.0 if len(piece) > 1 else -6.0) for piece in pieces]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=120)


def t5_text_model() -> T5EncoderModel:
    config = T5Config(
        vocab_size=len(t5_tokenizer()), d_model=TEXT_WIDTH, d_kv=8, d_ff=32, num_layers=2, num_heads=2, dropout_rate=0.0
    )
    return T5EncoderModel(config).eval()
