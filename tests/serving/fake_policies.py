"""Small policies that tests pass in."""

from __future__ import annotations

from headrace.serving.state import Round, State


class Greedy:
    """Everything that can run, decodings in `chunks`; rows past half of their progress are skipped where asked."""

    name = "greedy"

    def __init__(self, chunks: int = 1, skip: bool = False) -> None:
        self.chunks = chunks
        self.skip = skip

    def next(self, state: State) -> Round:
        room = state.slots - len(state.denoising) - len(state.decoding)
        admitted = list(state.waiting[: max(0, room)])
        running = [*state.denoising, *admitted]
        skip = frozenset(task.number for task in running if self.skip and task.guided and 2 * task.row >= task.rows)
        return Round(
            admit=tuple(task.number for task in admitted),
            rows=tuple(task.number for task in running),
            skip=skip,
            decode=tuple(task.number for task in state.decoding if task.number not in state.in_flight),
            chunks=self.chunks,
        )

    def prepare(self, state: State) -> None:
        pass
