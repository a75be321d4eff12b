"""Batches that are collected for a while, denoised together and released together."""

from __future__ import annotations

import math

from headrace.errors import ServingError
from headrace.serving.state import Round, State


class Dynamic:
    """A batch is all that came within `window_s` of its first request, as far as there are slots.

    Its rows advance together until the last of them is denoised; then all are decoded at once. Nothing joins meanwhile.
    """

    name = "dynamic"

    def __init__(self, window_s: float = 0.5) -> None:
        """Raises `ServingError` for a window below 0."""
        if not (math.isfinite(window_s) and window_s >= 0):
            raise ServingError(f"window_s is {window_s}", "Give seconds from 0 on")
        self._window_s = window_s

    def next(self, state: State) -> Round:
        """As `Policy.next`."""
        decoding = "decoding" if state.waiting else "all"
        if state.in_flight:
            return Round(reason=decoding)
        if state.denoising:
            batch = tuple(task.number for task in state.denoising)
            return Round(rows=batch, reason="batch" if state.waiting else "all")
        if state.decoding:
            return Round(decode=tuple(task.number for task in state.decoding), reason=decoding)
        if not state.waiting:
            return Round(reason="all")
        closes = state.waiting[0].arrived + self._window_s
        if len(state.waiting) < state.slots and state.now < closes:
            return Round(wait_until=closes, reason="window")
        batch = tuple(task.number for task in state.waiting[: state.slots])
        return Round(admit=batch, rows=batch, reason="slots" if len(batch) < len(state.waiting) else "all")

    def prepare(self, state: State) -> None:
        """Nothing is worked ahead."""
        return
