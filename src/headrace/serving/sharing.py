"""Processor sharing: works that advance side by side at equal speeds until each is done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def level(works: Iterable[float], share: float) -> float:
    """How far each work is, or would be if it were longer, once a share, 0 to 1, of them all together is done."""
    rising = sorted(works)
    wanted, below = share * sum(rising), 0.0
    for index, work in enumerate(rising):
        behind = len(rising) - index
        if below + work * behind >= wanted:
            return (wanted - below) / behind
        below += work
    return rising[-1]


def share_at_end(works: Sequence[float], work: float) -> float:
    """Which share of all works is done when `work`, one of them, is."""
    return sum(min(other, work) for other in works) / sum(works)
