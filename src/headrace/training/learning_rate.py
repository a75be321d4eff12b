"""The learning rate: linear warm-up, then half a cosine in each cycle."""

from __future__ import annotations

import math

from headrace.training.cycles import cycle_at
from headrace.training.tables.loop import LoopTable


def learning_rate(loop: LoopTable, step: int, progress: float) -> float:
    """The rate of step `step` (from 0), with `progress` in [0, 1] of the phase done.

    Several cycles are warm restarts (SGDR, arXiv:1608.03983) of equal length; the warm-up is at the start of the phase.
    """
    warmup = min(1.0, (step + 1) / loop.warmup_steps) if loop.warmup_steps else 1.0
    cycle, done = cycle_at(loop.cycles, progress)
    peak = loop.learning_rate * loop.cycle_decay**cycle
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    floor = loop.final_learning_rate
    return peak * warmup * (floor + (1 - floor) * cosine)
