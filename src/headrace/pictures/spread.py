"""A few of many, evenly."""

from __future__ import annotations

from collections.abc import Callable


def evenly(total: int, limit: int | None) -> Callable[[int], bool]:
    """Whether a number below `total` is among `limit` that lie evenly; all are where there is no limit."""
    if limit is None or limit >= total:
        return lambda _: True
    return lambda number: (number + 1) * limit // total > number * limit // total
