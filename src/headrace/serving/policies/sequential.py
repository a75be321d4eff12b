"""One request at a time: what a loop over a diffusers pipeline does."""

from __future__ import annotations

from headrace.serving.state import Round, State


class Sequential:
    """The request that came first is denoised and decoded, then the next."""

    name = "sequential"

    def next(self, state: State) -> Round:
        """As `Policy.next`."""
        if state.in_flight:
            return Round()
        if state.decoding:
            return Round(decode=(state.decoding[0].number,))
        if state.denoising:
            return Round(rows=(state.denoising[0].number,))
        if state.waiting:
            first = state.waiting[0].number
            return Round(admit=(first,), rows=(first,))
        return Round()

    def prepare(self, state: State) -> None:
        """Nothing is worked ahead."""
        return
