"""One request at a time: what a loop over a diffusers pipeline does."""

from __future__ import annotations

from headrace.serving.state import Round, State


class Sequential:
    """The request that came first is denoised and decoded, then the next."""

    name = "sequential"

    def next(self, state: State) -> Round:
        """As `Policy.next`."""
        left = len(state.denoising) + len(state.waiting)  # requests with rows to come
        decoding, rows = "decoding" if left else "all", "turn" if left > 1 else "all"
        if state.in_flight:
            return Round(reason=decoding)
        if state.decoding:
            return Round(decode=(state.decoding[0].number,), reason=decoding)
        if state.denoising:
            return Round(rows=(state.denoising[0].number,), reason=rows)
        if state.waiting:
            first = state.waiting[0].number
            return Round(admit=(first,), rows=(first,), reason=rows)
        return Round(reason="all")

    def prepare(self, state: State) -> None:
        """Nothing is worked ahead."""
        return
