"""A stage's own half of a multistage U-Net: up blocks of its own widths and the head, behind the shared encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import get_up_block
from torch import nn
from typing_extensions import override

from headrace.errors import ModelError
from headrace.techniques.multistage.encoder import Features

# What a block must be for its skips to be of other widths than its own: ResNet blocks that are given one skip each.
UP_BLOCKS = ("UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D")
# Normalisation over fewer channels than this a group loses what they hold: DDPM++ has min(channels / 4, 32) groups.
_LEAST_IN_A_GROUP = 4


class Decoder(nn.Module):
    """Up blocks and the head (norm, activation, `conv_out`) of a U-Net whose encoder may be of other widths.

    Each ResNet block takes its skip in the width that the encoder has there, and works in the decoder's. With the
    encoder's widths it is the second half of diffusers' `UNet2DModel`, weight by weight.
    """

    def __init__(self, unet: Mapping[str, Any], widths: Sequence[int]) -> None:
        """`unet`: the whole configuration of the `UNet2DModel`; `widths`: one a level, as in `block_out_channels`.

        Raises `ModelError` as `check` does.
        """
        super().__init__()
        check(unet, widths)
        self.layers = unet["layers_per_block"] + 1
        skips = skip_channels(unet)
        hidden = unet["block_out_channels"][-1]
        self.up_blocks = nn.ModuleList()
        for level in reversed(range(len(widths))):
            given = [skips.pop() for _ in range(self.layers)]
            self.up_blocks.append(_up_block(unet, level, widths[level], hidden, given))
            hidden = widths[level]
        self.conv_norm_out = nn.GroupNorm(groups_of(unet, hidden), hidden, eps=unet["norm_eps"])
        self.conv_act = nn.SiLU()
        self.conv_out = nn.Conv2d(hidden, unet["out_channels"], kernel_size=3, padding=1)
        self.fourier = unet["time_embedding_type"] == "fourier"

    @override
    def forward(self, features: Features) -> torch.Tensor:
        """[N, C_out, h, w], the network's output for the rows whose features these are."""
        hidden, skips = features.hidden, features.skips
        for block in self.up_blocks:
            hidden = block(hidden, skips[-self.layers :], features.embedding)
            skips = skips[: -self.layers]
        output = self.conv_out(self.conv_act(self.conv_norm_out(hidden)))
        # There the network predicts in units of its noise level, as diffusers has it.
        if not self.fourier:
            return output
        times = features.timestep.repeat_interleave(len(output) // len(features.timestep))
        return output / times[:, None, None, None]


def widths_of(unet: Mapping[str, Any], decoder: int | Sequence[int]) -> tuple[int, ...]:
    """A decoder's width at each level: as given, or of one number what the encoder's multipliers make of it.

    192 behind an encoder of 128, 256, 256, 256 is 192, 384, 384, 384. Raises `ModelError` where that is no whole
    number, or there is not one width, of at least 1, for each level.
    """
    encoder = unet["block_out_channels"]
    if isinstance(decoder, int):
        products = [decoder * width for width in encoder]
        if any(product % encoder[0] for product in products):
            raise ModelError(
                f"a decoder {decoder} wide has no whole widths behind an encoder of {list(encoder)}",
                "Give its widths level by level",
            )
        decoder = [product // encoder[0] for product in products]
    widths = tuple(decoder)
    if len(widths) != len(encoder) or not all(isinstance(width, int) and width >= 1 for width in widths):
        raise ModelError(
            f"the decoder's widths {list(widths)} are not one for each of the {len(encoder)} levels of the encoder",
            f"Give one number, or {len(encoder)} of them, each at least 1",
        )
    return widths


def without_attention(unet: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with up blocks of the same kind that have no attention.

    Table 6 has such decoders: its second and third stages have the parameters of decoders without attention.
    """
    plain = "ResnetUpsampleBlock2D" if unet["upsample_type"] == "resnet" else "UpBlock2D"
    kinds = [plain if kind == "AttnUpBlock2D" else kind for kind in unet["up_block_types"]]
    return {**unet, "up_block_types": kinds}


def check(unet: Mapping[str, Any], widths: Sequence[int]) -> None:
    """Raises `ModelError` for widths that norm or attention cannot divide, and for blocks that skip otherwise."""
    others = [kind for kind in unet["up_block_types"] if kind not in UP_BLOCKS]
    if others:
        raise ModelError(f"a decoder cannot be built of {others[0]}", f"Use {', '.join(UP_BLOCKS)}")
    groups = unet["norm_num_groups"]
    for level, width in enumerate(widths):
        if groups > 1 and groups_of(unet, width) == 1:
            raise ModelError(
                f"a decoder's width of {width} cannot be divided into groups of the norm, of which there are {groups}",
                f"Use multiples of {2 * _least(unet)}, best of {groups}",
            )
        kind = unet["up_block_types"][len(widths) - 1 - level]
        head = _head_dim(unet, level, width)
        if kind.startswith("Attn") and width % head:
            raise ModelError(
                f"a decoder's width of {width} cannot be divided into attention heads of {head} channels",
                "Change the width, or attention_head_dim",
            )


def groups_of(unet: Mapping[str, Any], channels: int) -> int:
    """Groups of a norm over so many channels: the most that divide both them and the configuration's number.

    A group has at least four channels, or what the encoder's narrowest has where that is fewer.
    """
    groups, least = unet["norm_num_groups"], _least(unet)
    divisors = (d for d in range(groups, 0, -1) if groups % d == 0 and channels % d == 0)
    return next((d for d in divisors if channels // d >= least), 1)


def skip_channels(unet: Mapping[str, Any]) -> list[int]:
    """Channels of the encoder's skips, in the order in which they come about."""
    levels = list(unet["block_out_channels"])
    of_level = [[width] * unet["layers_per_block"] for width in levels]
    downsampled = [[width] for width, _ in pairwise(levels)] + [[]]
    return [levels[0], *chain.from_iterable(a + b for a, b in zip(of_level, downsampled, strict=True))]


def _least(unet: Mapping[str, Any]) -> int:
    return min(_LEAST_IN_A_GROUP, min(unet["block_out_channels"]) // unet["norm_num_groups"])


def _head_dim(unet: Mapping[str, Any], level: int, width: int) -> int:
    """Channels of an attention head: all of them where the encoder's level has one head."""
    head = unet["attention_head_dim"]
    return width if head is None or head == unet["block_out_channels"][level] else int(head)


def _up_block(unet: Mapping[str, Any], level: int, width: int, hidden: int, skips: Sequence[int]) -> nn.Module:
    """diffusers' block for a level, its ResNet blocks made for `hidden` channels from below and these of skips."""
    common = {
        "temb_channels": unet["time_embedding_dim"] or unet["block_out_channels"][0] * 4,
        "dropout": unet["dropout"],
    }
    block: Any = get_up_block(
        unet["up_block_types"][len(unet["up_block_types"]) - 1 - level],
        num_layers=len(skips),
        in_channels=width,
        out_channels=width,
        prev_output_channel=width,
        add_upsample=level > 0,
        resnet_eps=unet["norm_eps"],
        resnet_act_fn=unet["act_fn"],
        resnet_groups=groups_of(unet, width),
        attention_head_dim=_head_dim(unet, level, width),
        resnet_time_scale_shift=unet["resnet_time_scale_shift"],
        upsample_type=unet["upsample_type"],
        **common,
    )
    for place, skip in enumerate(skips):
        taken = (hidden if place == 0 else width) + skip
        block.resnets[place] = ResnetBlock2D(
            in_channels=taken,
            out_channels=width,
            groups=groups_of(unet, taken),
            groups_out=groups_of(unet, width),
            eps=unet["norm_eps"],
            non_linearity=unet["act_fn"],
            time_embedding_norm=unet["resnet_time_scale_shift"],
            **common,
        )
    return block
