"""Short names of a network's blocks, for tables and plots."""

from __future__ import annotations

import re

_PATH = re.compile(r"(down|mid|up|transformer)_blocks?(?:\.(\d+))?(?:\.(?:attentions|resnets)\.(\d+))?")


def block_label(path: str) -> str:
    """`down_blocks.1.attentions.0` is "down 1.0", `mid_block.resnets.1` "mid 1", `transformer_blocks.7` "block 7"."""
    found = _PATH.fullmatch(path)
    if found is None:
        return path
    place = ".".join(number for number in found.groups()[1:] if number is not None)
    return f"{block_part(path) or 'block'} {place}"


def block_part(path: str) -> str:
    """ "down", "mid" or "up" in a U-Net; empty elsewhere."""
    part = path.partition("_")[0]
    return part if part in ("down", "mid", "up") else ""
