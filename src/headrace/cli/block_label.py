"""Short names of a network's blocks, for tables and plots."""

from __future__ import annotations

import re

_PATH = re.compile(r"(down|mid|up|transformer)_blocks?(?:\.(\d+))?(?:\.(?:attentions|(resnets))\.(\d+))?")


def block_label(path: str) -> str:
    """`mid_block.attentions.0` is "mid 0", `up_blocks.1.resnets.0` "up 1.0 res", `transformer_blocks.7` "block 7".

    A branch is the "deep branch".
    """
    if path.startswith("branch."):
        return "deep branch"
    found = _PATH.fullmatch(path)
    if found is None:
        return path
    _, level, resnets, place = found.groups()
    numbers = ".".join(number for number in (level, place) if number is not None)
    return f"{block_part(path) or 'block'} {numbers}{' res' if resnets else ''}"


def block_part(path: str) -> str:
    """ "down", "mid" or "up" in a U-Net; empty elsewhere."""
    part = path.partition("_")[0]
    return part if part in ("down", "mid", "up") else ""
