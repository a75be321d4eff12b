"""What to do where the engine lets nobody in, though there are free slots: a large picture may need several."""

from __future__ import annotations

from dataclasses import replace

from headrace.serving.state import Round, State

_CLOSED = 3  # rounds


class Doors:
    """Who was to be admitted and waits still found no room, or its prompt is not encoded yet.

    To ask again and again would keep the residents from running, who alone make room. So nobody is asked in for some
    rounds, as long as there are residents.
    """

    def __init__(self) -> None:
        self._asked: frozenset[int] = frozenset()
        self._closed = 0

    def seen(self, state: State) -> State:
        """The state as it is to be decided on: without free slots where the doors are closed."""
        if self._asked and any(task.number in self._asked for task in state.waiting):
            self._closed = _CLOSED
        self._asked = frozenset()
        residents = len(state.denoising) + len(state.decoding)
        if not self._closed or not residents:
            return state
        self._closed -= 1
        return replace(state, slots=residents)

    def admitted(self, decided: Round) -> None:
        """Whom the round asks in."""
        self._asked = frozenset(decided.admit)
