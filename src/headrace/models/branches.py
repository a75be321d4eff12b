"""The deep part of a denoising network, which rows may skip as a whole.

A U-Net is cut at a level and a layer of that level, as in Ma et al., "DeepCache" (CVPR 2024): the layers above the cut
are evaluated in every row, and of everything below it the hidden state that it hands up is reused (equations 4 to 6).
A transformer has no such short cut. There a branch is a run of consecutive blocks, and what they added is reused.

A branch has a path like a module's. "branch.L.J" of a U-Net: on the way down, the first J layers of level L stay
outside, and on the way up the last J + 1; with J the number of layers of the level, the cut is at its down-sampler.
DeepCache's `cache_branch_id` b is "branch.{b // 3}.{b % 3}" where levels have two layers. "branch.A.B" of a
transformer: its blocks A to B - 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from diffusers.models.attention import BasicTransformerBlock

from headrace.errors import ModelError
from headrace.models.wrapper import unwrapped

_PATH = re.compile(r"branch\.(?P<first>\d+)\.(?P<second>\d+)")
# Levels whose `forward` calls layer after layer and returns what the wrappers of a branch can stand in for.
_LEVELS = frozenset(f"{kind}{way}Block2D" for kind in ("", "Attn", "CrossAttn") for way in ("Down", "Up"))


def is_branch(path: str) -> bool:
    """Whether a path is written as a branch's."""
    return _PATH.fullmatch(path) is not None


def level_of(path: str) -> int:
    """The level that a U-Net's branch is cut at: its value has the size of that level."""
    return int(path.split(".")[1])


def find_branches(network: Any) -> tuple[str, ...]:
    """The branches that a network may be cut at, the largest first: none for a network of another build.

    Of a transformer, those that leave out as many blocks in front as behind; any other run of blocks will do too.
    """
    if is_additive(network):
        count = len(network.transformer_blocks)
        return tuple(f"branch.{trim}.{count - trim}" for trim in range((count + 1) // 2))
    if not _is_unet(network):
        return ()
    cuts = [(level, layer) for level, down in enumerate(network.down_blocks) for layer in range(len(down.resnets) + 1)]
    return tuple(f"branch.{level}.{layer}" for level, layer in cuts if _below(network, level, layer))


def default_branch(network: Any) -> str:
    """The branch that is reused where none is named.

    Of a U-Net the largest, cut below its first layer (DeepCache's branch 0): on the rows between, one layer of the way
    up is evaluated, at the full size. Of a transformer, all blocks but the first and the last quarter of them. Raises
    `ModelError` where the network has none.
    """
    known = find_branches(network)
    if not known:
        raise ModelError(
            f"the {type(network).__name__} has no deep branch that rows could skip",
            "Branches are known of plain U-Nets, PixArt and DiT: leave the interval at 1",
        )
    return known[len(known) // 2] if is_additive(network) else known[0]


def modules_of(network: Any, path: str) -> tuple[str, ...]:
    """Paths of the modules that a block is made of: of a branch several, in the order of evaluation; else its own.

    Raises `ModelError` where the network has no such branch.
    """
    place = _PATH.fullmatch(path)
    if place is None:
        return (path,)
    first, second = int(place["first"]), int(place["second"])
    if is_additive(network):
        if 0 <= first < second <= len(network.transformer_blocks):
            return tuple(f"transformer_blocks.{number}" for number in range(first, second))
    elif path in find_branches(network):
        return _below(network, first, second)
    known = find_branches(network)
    raise ModelError(
        f"the {type(network).__name__} has no branch {path!r}",
        f"It has {', '.join(known)}" if known else "Branches are known of plain U-Nets, PixArt and DiT",
    )


def is_additive(network: Any) -> bool:
    """Whether this is a transformer, of whose branch it is reused what it added, not what it handed on."""
    blocks = getattr(network, "transformer_blocks", ())
    return len(blocks) > 0 and all(isinstance(unwrapped(block), BasicTransformerBlock) for block in blocks)


def _is_unet(network: Any) -> bool:
    if not hasattr(network, "down_blocks") or not hasattr(network, "up_blocks"):
        return False
    downs, ups = list(network.down_blocks), list(network.up_blocks)[::-1]
    return (
        len(downs) == len(ups)
        and all(type(unwrapped(block)).__name__ in _LEVELS for block in (*downs, *ups))
        and all(len(up.resnets) == len(down.resnets) + 1 for down, up in zip(downs, ups, strict=True))
    )


def _below(network: Any, level: int, layer: int) -> tuple[str, ...]:
    """The modules below a cut, in the order of evaluation."""
    return tuple(_walk(network, level, layer))


def _walk(network: Any, level: int, layer: int) -> Iterator[str]:
    levels = len(network.down_blocks)
    down, up = network.down_blocks[level], levels - 1 - level
    yield from _layers(down, f"down_blocks.{level}", range(layer, len(down.resnets)))
    if down.downsamplers is not None:
        yield from (f"down_blocks.{level}.downsamplers.{number}" for number in range(len(down.downsamplers)))
    yield from (f"down_blocks.{deeper}" for deeper in range(level + 1, levels))
    if network.mid_block is not None:
        yield "mid_block"
    yield from (f"up_blocks.{deeper}" for deeper in range(up))
    yield from _layers(network.up_blocks[up], f"up_blocks.{up}", range(len(down.resnets) - layer))


def _layers(block: Any, path: str, numbers: range) -> Iterator[str]:
    for number in numbers:
        yield f"{path}.resnets.{number}"
        if hasattr(block, "attentions"):
            yield f"{path}.attentions.{number}"
