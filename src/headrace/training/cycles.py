"""The cycles of a phase: equal parts of its progress, at each of which the learning rate starts again."""

from __future__ import annotations


def cycles_ended(cycles: int, progress: float) -> int:
    """How many of so many cycles are over, with `progress` in [0, 1] of the phase done.

    Compared as quotients: step / steps is then the very number at which a cycle ends, and no rounding delays it.
    """
    return sum(progress >= number / cycles for number in range(1, cycles + 1))


def cycle_at(cycles: int, progress: float) -> tuple[int, float]:
    """The number, from 0, of the cycle that the next step belongs to, and the part of it that is done, in [0, 1]."""
    number = min(cycles_ended(cycles, progress), cycles - 1)
    return number, min(1.0, max(0.0, progress * cycles - number))
