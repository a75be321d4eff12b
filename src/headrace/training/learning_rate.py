"""The learning rate: linear warm-up, then half a cosine."""

from __future__ import annotations

import math

from headrace.training.tables.loop import LoopTable


def learning_rate(loop: LoopTable, step: int, progress: float) -> float:
    """The rate of step `step` (from 0), with `progress` in [0, 1] of the phase done."""
    warmup = min(1.0, (step + 1) / loop.warmup_steps) if loop.warmup_steps else 1.0
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress))))
    floor = loop.final_learning_rate
    return loop.learning_rate * warmup * (floor + (1 - floor) * cosine)
