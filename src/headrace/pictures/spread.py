"""A few of many, evenly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch


def evenly(total: int, limit: int | None) -> Callable[[int], bool]:
    """Whether a number below `total` is among `limit` that lie evenly; all are where there is no limit."""
    if limit is None or limit >= total:
        return lambda _: True
    return lambda number: (number + 1) * limit // total > number * limit // total


def spread_indices(count: int, wanted: int) -> np.ndarray:
    """At most `wanted` of `count` indices, the first and the last among them."""
    return np.linspace(0, count - 1, min(wanted, count)).round().astype(int)


def spread(items: torch.Tensor, wanted: int) -> torch.Tensor:
    """At most `wanted` of N items [N, ...], the first and the last among them."""
    return items[spread_indices(len(items), wanted)]
