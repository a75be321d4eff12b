"""Bounds on waiting: nobody is passed over for ever, whatever the objective says."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from operator import attrgetter

from headrace.serving.state import Round, State, Task

_WINDOW = 32  # the oldest that wait and are looked at
_NUMBER = attrgetter("number")


class Fairness:
    """Who may be admitted, and who must run now.

    A resident that was passed over in `patience` rounds is overdue and runs in the next cycle. A request that
    `overtakes` later ones were admitted before is overdue, too: no other is admitted until it is. Only the oldest 32
    are considered for admission, and those with a priority or a deadline, so what stands before a request in the queue
    bounds what can be served before it.
    """

    def __init__(self, patience: int, overtakes: int) -> None:
        self._patience = patience
        self._overtakes = overtakes
        self._passed: dict[int, int] = {}
        self._overtaken: dict[int, int] = {}
        self._special: list[int] = []  # tickets with a priority or a deadline
        self._newest = -1

    def candidates(self, waiting: Sequence[Task]) -> list[Task]:
        """Who may be admitted now."""
        oldest = list(waiting[:_WINDOW])
        for task in oldest:
            if self._overtaken.get(task.number, 0) >= self._overtakes:
                return [task]
        return oldest + [task for task in self._specials(waiting) if task.number > oldest[-1].number]

    def overdue(self, residents: Sequence[Task], candidates: Sequence[Task]) -> list[Task]:
        """Who must run now, the longest waiting first."""
        passed = [task for task in residents if self._passed.get(task.number, 0) >= self._patience]
        passed.sort(key=lambda task: -self._passed[task.number])
        overtaken = [task for task in candidates if self._overtaken.get(task.number, 0) >= self._overtakes]
        return passed + overtaken

    def record(self, state: State, decided: Round) -> None:
        """Counts what a round passes over and lets overtake."""
        rows = set(decided.rows)
        self._passed = {
            number: 0 if number in rows else self._passed.get(number, 0) + 1
            for number in (*(task.number for task in state.denoising), *decided.admit)
        }
        if not decided.admit:
            return
        admitted = set(decided.admit)
        oldest = [task.number for task in state.waiting[:_WINDOW] if task.number not in admitted]
        self._overtaken = {
            number: self._overtaken.get(number, 0) + sum(other > number for other in admitted) for number in oldest
        }

    def notice(self, waiting: Sequence[Task]) -> None:
        """Looks at those that came since the last time."""
        for task in reversed(waiting):
            if task.number <= self._newest:
                break
            if task.priority or task.deadline is not None:
                self._special.append(task.number)
        if waiting:
            self._newest = max(self._newest, waiting[-1].number)
        if self._special:
            self._special = [task.number for task in self._found(waiting)]

    def _specials(self, waiting: Sequence[Task]) -> list[Task]:
        """Those with a priority or a deadline, wherever they stand, the most urgent first; 32 at most."""
        found = self._found(waiting)
        found.sort(key=lambda task: (-task.priority, task.deadline is None, task.deadline or 0.0, task.number))
        return found[:_WINDOW]

    def _found(self, waiting: Sequence[Task]) -> list[Task]:
        places = ((number, bisect_left(waiting, number, key=_NUMBER)) for number in self._special)
        return [waiting[place] for number, place in places if place < len(waiting) and waiting[place].number == number]
