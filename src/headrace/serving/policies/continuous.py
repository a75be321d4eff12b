"""Continuous batching with whole decodings beside the rows (InstGenIE's way, the paper's strongest baseline)."""

from __future__ import annotations

from headrace.serving.state import Round, State


class Continuous:
    """Every free slot is filled, every resident row runs in every round, every finished latent is decoded at once."""

    name = "continuous"

    def next(self, state: State) -> Round:
        """As `Policy.next`."""
        admitted = tuple(task.number for task in state.waiting[: state.free])
        return Round(
            admit=admitted,
            rows=tuple(task.number for task in state.denoising) + admitted,
            decode=tuple(task.number for task in state.decoding if task.number not in state.in_flight),
            reason="slots" if len(admitted) < len(state.waiting) else "all",
        )

    def prepare(self, state: State) -> None:
        """Nothing is worked ahead."""
        return
