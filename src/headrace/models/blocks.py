"""The blocks of a denoising network that a cache may reuse: where they are and what they are like."""

from __future__ import annotations

import re
from typing import Any, Literal

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel

from headrace.models import branches
from headrace.models.pipelines.base import LatentShape

Kind = Literal["transformer", "resnet", "cross_attention", "branch"]

_IN_UNET = re.compile(
    r"(?P<part>down_blocks|mid_block|up_blocks)(\.(?P<level>\d+))?\.(?P<list>attentions|resnets)\.(?P<place>\d+)"
    r"(\.transformer_blocks\.(?P<inner>\d+)(?P<attn2>\.attn2))?"
)
_IN_TRANSFORMER = re.compile(r"transformer_blocks\.(?P<place>\d+)(?P<attn2>\.attn2)?")
_PARTS = ("down_blocks", "mid_block", "up_blocks")


def find_blocks(network: torch.nn.Module, kind: Kind) -> tuple[str, ...]:
    """Paths of the network's blocks of a kind, in the order in which they are evaluated.

    "transformer" are the spatial transformers of a `UNet2DConditionModel`, the residual attention blocks of a
    `UNet2DModel` and the transformer blocks of PixArt and DiT; "resnet" are a U-Net's `ResnetBlock2D`;
    "cross_attention" are the attentions to the text, one in each transformer block; "branch" are the deep parts that a
    network may be cut at (`headrace.models.branches`), the largest first.
    """
    if kind == "branch":
        return branches.find_branches(network)
    found = [name for name, module in network.named_modules() if is_block(name, module) and kind_of(module) == kind]
    return tuple(sorted(found, key=_order))


def is_block(path: str, module: torch.nn.Module) -> bool:
    """Whether this is one module of a form that a cache knows: a residual plus what it adds, or a cross-attention."""
    place = _IN_UNET.fullmatch(path) or _IN_TRANSFORMER.fullmatch(path)
    if place is None:
        return False
    if isinstance(module, Attention):
        whole = place["attn2"] is None
        return module.residual_connection if whole else module.is_cross_attention and not module.residual_connection
    return place["attn2"] is None and isinstance(module, (Transformer2DModel, ResnetBlock2D, BasicTransformerBlock))


def kind_of(block: torch.nn.Module) -> Kind:
    """Which kind a block is that is one module."""
    if isinstance(block, Attention) and not block.residual_connection:
        return "cross_attention"
    return "resnet" if isinstance(block, ResnetBlock2D) else "transformer"


def residual(block: torch.nn.Module, hidden_states: torch.Tensor) -> torch.Tensor | None:
    """What the block's output has besides its own contribution C_i: `output = residual + C_i` (equation 4).

    The concatenation of the paper is the block's input here; a ResNet block that changes the number of channels takes
    it through its 1x1 convolution, which is evaluated anew. None for a cross-attention: its output is what it adds.
    """
    if isinstance(block, ResnetBlock2D):
        shortcut = hidden_states if block.conv_shortcut is None else block.conv_shortcut(hidden_states)
        return _divided(shortcut, block.output_scale_factor)
    if isinstance(block, Attention):
        return _divided(hidden_states, block.rescale_output_factor) if block.residual_connection else None
    return hidden_states


def _divided(tensor: torch.Tensor, factor: float) -> torch.Tensor:
    return tensor if factor == 1.0 else tensor / factor


def block_shape(config: Any, path: str, block: torch.nn.Module, latent_shape: LatentShape) -> tuple[int, ...]:
    """Shape of a block's value of one row: [C, h, w] in a U-Net, [tokens, C] in a transformer and of a cross-attention.

    Follows from the network's configuration, so a block on the meta device will do. For a branch, `block` is the last
    of its modules.
    """
    _, height, width = latent_shape
    if "block_out_channels" not in config:
        return (height // config.patch_size) * (width // config.patch_size), channels(block)
    place = _IN_UNET.fullmatch(path)
    padded = config.get("downsample_padding", 1) != 0
    for _ in range(branches.level_of(path) if place is None else _depth(config, place)):
        # A convolution of width 3 and stride 2; without padding diffusers adds one line on one side.
        height, width = ((height + 1) // 2, (width + 1) // 2) if padded else (height // 2, width // 2)
    if place is not None and place["attn2"]:
        return height * width, channels(block)
    return channels(block), height, width


def _depth(config: Any, place: re.Match[str]) -> int:
    """How often the latents were halved where a U-Net's block stands."""
    deepest = len(config.block_out_channels) - 1
    level = int(place["level"] or 0)
    return {"down_blocks": level, "mid_block": deepest, "up_blocks": deepest - level}[place["part"]]


def channels(block: Any) -> int:
    """Channels of a block's output; of a level or the middle of a U-Net, those of its last ResNet block."""
    if isinstance(block, Attention):
        return int(block.query_dim)
    if isinstance(block, BasicTransformerBlock):
        return int(block.dim)
    return int((block.resnets[-1] if hasattr(block, "resnets") else block).out_channels)


def _order(path: str) -> tuple[int, ...]:
    place = _IN_UNET.fullmatch(path)
    if place is None:
        return (int(path.split(".")[1]),)
    within = (int(place["place"]), place["list"] == "attentions")  # a level evaluates resnet, attention, resnet, ...
    if place["part"] == "mid_block":
        # resnet 0, then attention i and resnet i + 1 in turn
        within = (2 * int(place["place"]) - (place["list"] == "resnets") + 1, 0)
    return (_PARTS.index(place["part"]), int(place["level"] or 0), *map(int, within), int(place["inner"] or 0))
