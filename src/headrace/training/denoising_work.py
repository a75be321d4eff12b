"""What a step of a diffusion objective costs, by the parts of its network that pictures go through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch

from headrace.models.macs import count_macs

# Noise levels at which it is asked which part a picture goes through: the shares are right to one in so many.
_LEVELS = 4096


def count_parts(
    part_of: Callable[[torch.Tensor], list[str]], evaluate: Callable[[float], object], group: int
) -> dict[str, tuple[int, float]]:
    """Part -> (forward MACs for one picture, its share of all pictures).

    `part_of` names the part that a picture goes through for each of [B] uniform draws, which noise levels follow from;
    `evaluate` makes the forward pass of a group of so many pictures for one such draw.
    """
    uniform = (torch.arange(_LEVELS) + 0.5) / _LEVELS
    names = part_of(uniform)
    first = {name: float(uniform[names.index(name)]) for name in dict.fromkeys(names)}
    counted = Counter(names)
    return {
        name: (count_macs(lambda draw=draw: evaluate(draw)).total // group, counted[name] / _LEVELS)  # type: ignore[misc]
        for name, draw in sorted(first.items())
    }
