"""The blocks of a denoising network whose residual branch a cache may reuse: where they are and what they are like."""

from __future__ import annotations

import re
from typing import Any, Literal

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel

from headrace.models.pipelines.base import LatentShape

Kind = Literal["transformer", "resnet"]

_IN_UNET = re.compile(
    r"(?P<part>down_blocks|mid_block|up_blocks)(\.(?P<level>\d+))?\.(?P<list>attentions|resnets)\.(?P<place>\d+)"
)
_IN_TRANSFORMER = re.compile(r"transformer_blocks\.(?P<place>\d+)")
_PARTS = ("down_blocks", "mid_block", "up_blocks")


def find_blocks(network: torch.nn.Module, kind: Kind) -> tuple[str, ...]:
    """Module paths of the network's transformer or ResNet blocks, in the order in which they are evaluated.

    "transformer" are the spatial transformers of a `UNet2DConditionModel`, the residual attention blocks of a
    `UNet2DModel` and the transformer blocks of PixArt and DiT; "resnet" are a U-Net's `ResnetBlock2D`.
    """
    found = [name for name, module in network.named_modules() if is_block(name, module) and kind_of(module) == kind]
    return tuple(sorted(found, key=_order))


def is_block(path: str, module: torch.nn.Module) -> bool:
    """Whether this is a block of a form that a cache knows: its output is a residual plus what the block adds."""
    if isinstance(module, Attention) and not module.residual_connection:
        return False
    known = isinstance(module, (Transformer2DModel, Attention, ResnetBlock2D, BasicTransformerBlock))
    return known and bool(_IN_UNET.fullmatch(path) or _IN_TRANSFORMER.fullmatch(path))


def kind_of(block: torch.nn.Module) -> Kind:
    """Which of the paper's two kinds a block is."""
    return "resnet" if isinstance(block, ResnetBlock2D) else "transformer"


def residual(block: torch.nn.Module, hidden_states: torch.Tensor) -> torch.Tensor:
    """What the block's output has besides its own contribution C_i: `output = residual + C_i` (equation 4).

    The concatenation of the paper is the block's input here; a ResNet block that changes the number of channels takes
    it through its 1x1 convolution, which is evaluated anew.
    """
    if isinstance(block, ResnetBlock2D):
        shortcut = hidden_states if block.conv_shortcut is None else block.conv_shortcut(hidden_states)
        return _divided(shortcut, block.output_scale_factor)
    if isinstance(block, Attention):
        return _divided(hidden_states, block.rescale_output_factor)
    return hidden_states


def _divided(tensor: torch.Tensor, factor: float) -> torch.Tensor:
    return tensor if factor == 1.0 else tensor / factor


def block_shape(config: Any, path: str, block: torch.nn.Module, latent_shape: LatentShape) -> tuple[int, ...]:
    """Shape of what a block adds to one row, [C, h, w] in a U-Net and [tokens, C] in a transformer.

    Follows from the network's configuration, so a block on the meta device will do.
    """
    _, height, width = latent_shape
    place = _IN_UNET.fullmatch(path)
    if place is None:
        return (height // config.patch_size) * (width // config.patch_size), channels(block)
    deepest = len(config.block_out_channels) - 1
    level = int(place["level"] or 0)
    downs = {"down_blocks": level, "mid_block": deepest, "up_blocks": deepest - level}[place["part"]]
    padded = config.get("downsample_padding", 1) != 0
    for _ in range(downs):
        # A convolution of width 3 and stride 2; without padding diffusers adds one line on one side.
        height, width = ((height + 1) // 2, (width + 1) // 2) if padded else (height // 2, width // 2)
    return channels(block), height, width


def channels(block: Any) -> int:
    """Channels of a block's output."""
    if isinstance(block, Attention):
        return int(block.query_dim)
    return int(block.dim if isinstance(block, BasicTransformerBlock) else block.out_channels)


def _order(path: str) -> tuple[int, ...]:
    place = _IN_UNET.fullmatch(path)
    if place is None:
        return (int(path.rpartition(".")[2]),)
    within = (int(place["place"]), place["list"] == "attentions")  # a level evaluates resnet, attention, resnet, ...
    if place["part"] == "mid_block":
        # resnet 0, then attention i and resnet i + 1 in turn
        within = (2 * int(place["place"]) - (place["list"] == "resnets") + 1, 0)
    return (_PARTS.index(place["part"]), int(place["level"] or 0), *map(int, within))
