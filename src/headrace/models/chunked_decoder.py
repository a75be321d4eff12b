"""The decoder of an autoencoder as parts of about equal time that run one after another (SynerDiff, section III-B).

A decoder is cut only where one of its ResNet blocks begins or ends, so between two parts there is one tensor to keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention
from diffusers.models.autoencoders.vae import Decoder
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import AttnUpDecoderBlock2D, UNetMidBlock2D, UpDecoderBlock2D

Step = Callable[[torch.Tensor], torch.Tensor]
# What reading and writing one value costs, in multiply-accumulate operations of a convolution: it is what makes the
# parts at high resolution, with few channels, slower than their operations say.
_MACS_A_VALUE = 150


@dataclass(frozen=True)
class _Segment:
    """What lies between two boundaries: its steps, and its cost at the decoder's input size."""

    steps: Sequence[Step]
    cost: int


class ChunkedDecoder:
    """The steps of `AutoencoderKL.decode`, in its order and with its modules, so the results are equal bit for bit."""

    def __init__(self, autoencoder: Any, height: int, width: int) -> None:
        """`height` and `width` are those of the latents. Raises `TypeError` where `can_be_cut` is False."""
        if not can_be_cut(autoencoder):
            raise TypeError(f"the decoder of a {type(autoencoder).__name__} runs whole")
        self._segments = list(_segments(autoencoder, height, width))

    @property
    def max_chunks(self) -> int:
        """Parts between two neighbouring boundaries; 20 for Stable Diffusion's decoder."""
        return len(self._segments)

    @property
    def costs(self) -> list[int]:
        """What each of these costs, in multiply-accumulate operations with memory traffic counted in."""
        return [segment.cost for segment in self._segments]

    def chunks(self, count: int) -> list[Step]:
        """`count` parts, or as many as there are: the first takes latents as `decode` does, the last makes images.

        The cuts are those whose costs are most alike: the sum of their squares is the least.
        """
        bounds = balanced(self.costs, min(count, self.max_chunks))
        return [_Chunk([step for part in self._segments[a:b] for step in part.steps]) for a, b in pairwise(bounds)]


class _Chunk:
    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps

    def __call__(self, state: torch.Tensor) -> torch.Tensor:
        for step in self._steps:
            state = step(state)
        return state


def can_be_cut(autoencoder: Any) -> bool:
    """Whether it is an `AutoencoderKL` whose decoder's steps are known here and are all that decoding does.

    So is a subclass that decodes as that class does; a sequence of modules may stand in place of its last norm. Others
    (`VQModel`, `AutoencoderTiny`) decode whole, and so does one that was told to decode tiles or slices, was compiled,
    or has hooks on the decoder.
    """
    if not _decodes_as_diffusers(type(autoencoder)) or autoencoder.use_tiling or autoencoder.use_slicing:
        return False
    decoder = autoencoder.decoder
    if type(decoder) is not Decoder or decoder._compiled_call_impl is not None or hasattr(autoencoder, "_hf_hook"):
        return False
    blocks = (decoder.mid_block, *decoder.up_blocks)
    if any(part._forward_hooks or part._forward_pre_hooks for part in (decoder, *blocks)):
        return False
    known = type(decoder.mid_block) is UNetMidBlock2D
    return known and all(type(block) in (UpDecoderBlock2D, AttnUpDecoderBlock2D) for block in decoder.up_blocks)


def _decodes_as_diffusers(kind: Any) -> bool:
    own = AutoencoderKL
    return issubclass(kind, own) and kind.decode is own.decode and kind._decode is own._decode


def balanced(costs: Sequence[int], parts: int) -> list[int]:
    """Where to cut costs into consecutive parts, none of them empty, with the least sum of squared costs.

    Returns `parts` + 1 positions, 0 and `len(costs)` among them; `parts` is at least 1 and at most `len(costs)`.
    """
    sums = [0, *accumulate(costs)]
    best: list[tuple[int, list[int]]] = [(total * total, [0, end]) for end, total in enumerate(sums)]
    for part in range(2, parts + 1):
        best = [
            min(
                (best[start][0] + (sums[end] - sums[start]) ** 2, [*best[start][1], end])
                for start in range(part - 1, end)
            )
            if end >= part
            else best[end]
            for end in range(len(sums))
        ]
    return best[-1][1]


def _segments(autoencoder: Any, height: int, width: int) -> Iterator[_Segment]:
    """A ResNet block each, and what stands before, between and behind them."""
    modules = _modules(autoencoder, height * width)
    for is_resnet, group in groupby(modules, key=lambda found: _is_resnet(found[0])):
        found = list(group)
        for part in [[one] for one in found] if is_resnet else [found]:
            yield _Segment([_step(module) for module, _ in part], sum(_cost(module, at) for module, at in part))


def _modules(autoencoder: Any, positions: int) -> Iterator[tuple[torch.nn.Module, int]]:
    """What decoding calls, in this order, and at how many positions (height x width) it writes."""
    decoder = autoencoder.decoder
    if autoencoder.post_quant_conv is not None:
        yield autoencoder.post_quant_conv, positions
    yield decoder.conv_in, positions
    middle = decoder.mid_block
    yield middle.resnets[0], positions
    for attention, resnet in zip(middle.attentions, middle.resnets[1:], strict=True):
        if attention is not None:
            yield attention, positions
        yield resnet, positions
    for block in decoder.up_blocks:
        attentions = block.attentions if isinstance(block, AttnUpDecoderBlock2D) else [None] * len(block.resnets)
        for resnet, attention in zip(block.resnets, attentions, strict=True):
            yield resnet, positions
            if attention is not None:
                yield attention, positions
        for upsampler in block.upsamplers or ():
            positions *= 4
            yield upsampler, positions
    yield from _head(autoencoder, positions)


def _head(autoencoder: Any, positions: int) -> Iterator[tuple[torch.nn.Module, int]]:
    """The last norm, activation and convolution; where a latent is decoded to `pictures`, they come out of a module
    before the norm, and the rest is done for each.
    """
    decoder = autoencoder.decoder
    norms = [decoder.conv_norm_out]
    if isinstance(decoder.conv_norm_out, torch.nn.Sequential):
        unfusion, *norms = decoder.conv_norm_out
        yield unfusion, positions
        positions *= getattr(autoencoder, "pictures", 1)
    for module in (*norms, decoder.conv_act, decoder.conv_out):
        yield module, positions


def _is_resnet(module: torch.nn.Module) -> bool:
    return isinstance(module, ResnetBlock2D)


def _step(module: Any) -> Step:
    """A module as its decoder calls it, without a time embedding."""
    if isinstance(module, Attention):
        return lambda state: module(state, temb=None)
    if _is_resnet(module):
        return lambda state: module(state, None)
    return lambda state: module(state)


def _cost(module: torch.nn.Module, positions: int) -> int:
    """Multiply-accumulate operations on so many positions, and the values that convolutions and norms write."""
    macs = values = 0
    for part in module.modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.Linear):
            macs += part.weight.numel() * positions
            values += part.weight.shape[0] * positions
        elif isinstance(part, torch.nn.GroupNorm):
            values += 2 * part.num_channels * positions  # the norm, and the activation behind it
        elif isinstance(part, Attention):
            macs += 2 * part.inner_dim * positions**2
    return macs + _MACS_A_VALUE * values
