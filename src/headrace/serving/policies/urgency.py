"""Which request is served first: weight by latency so far, priority and deadline, over the work that is left."""

from __future__ import annotations

import math
from dataclasses import dataclass

from headrace.serving.state import Task

_MOST_PRIORITY = 20  # 4 ** 20 outweighs anything; beyond it numbers only overflow
_DEADLINE = 8.0  # how much more a request weighs that just makes its deadline
_LEAST_S = 1e-9


@dataclass(frozen=True)
class Urgency:
    """The weight of a request in the objective that schedules minimise.

    With ageing p the objective is the sum of latency ** p: a moment's delay costs latency ** (p - 1). 1 is the mean
    latency, where shortest work goes first and long requests wait; the larger, the more the oldest goes first.
    """

    ageing: float = 4.0

    def weight(self, task: Task, now: float, work_s: float) -> float:
        """What a second's delay of a request costs, whose rows and decoding take `work_s` more."""
        latency = max(now - task.arrived, 0.0) + work_s
        weight = math.pow(max(latency, _LEAST_S), self.ageing - 1)
        if task.priority:
            weight *= 4.0 ** max(-_MOST_PRIORITY, min(task.priority, _MOST_PRIORITY))
        if task.deadline is not None and (left := task.deadline - now) >= work_s:
            weight *= 1 + _DEADLINE * work_s / max(left, _LEAST_S)
        return weight
