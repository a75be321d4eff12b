"""Which rows run next: tasks of one size, as many as serve the mean best, the most urgent for their work first."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headrace.serving.latency_table import LatencyTable
from headrace.serving.policies.planners import Kept
from headrace.serving.policies.urgency import Urgency
from headrace.serving.state import Size, State, Task

_REMEMBERED = 20_000
_SAMPLE = 32
_TO_COME = 6
_COMPANY = 3.0  # what it counts if all residents are of one's size; larger gains throughput, and costs the slowest


@dataclass(frozen=True)
class Group:
    """Tasks of one size that could run together, the most urgent first, and what running them is worth.

    Attributes:
        worth: the weight of those that would be done first, over the seconds until they are.
        limit: why others of this size are not among them, in `Round.reason`'s words; empty where there are none.
    """

    size: Size
    tasks: Sequence[Task]
    worth: float
    limit: str = ""


class Groups:
    """Sizes share no network call, so they take turns: whoever runs alone is done earlier, and nobody later.

    Within a size a larger batch has the higher throughput, and a smaller one is done earlier: of n tasks that take r
    rows each, u at a time, the mean is done after r T(u) (n / u + 1) / 2. Those that come later wait for the same
    throughput: n counts as 6 n (of 2, 4, 8 and without end, 4 to 8 were best at loads of 0.5 to 1.3, simulated).
    """

    def __init__(self, table: LatencyTable, urgency: Urgency, most_rows: int) -> None:
        self._table = table
        self._urgency = urgency
        self._most_rows = most_rows
        self._times: Kept[tuple[Size, int], tuple[float, float]] = Kept(_REMEMBERED)
        self._batches: Kept[tuple[Size, int], int] = Kept(_REMEMBERED)

    def of(self, state: State, candidates: Sequence[Task]) -> list[Group]:
        """A group of each size, the one to run first; `candidates` may be admitted to free slots."""
        queued = _queued(state.waiting)
        sizes: dict[Size, tuple[list[Task], list[Task]]] = defaultdict(lambda: ([], []))
        for task in state.denoising:
            sizes[task.size][0].append(task)
        for task in candidates:
            sizes[task.size][1].append(task)
        groups = []
        for size, (resident, waiting) in sizes.items():
            most = self.batch(size, round(len(resident) + queued.get(size, 0.0)))
            tasks = self._choose(resident, waiting, most, state.free, state.now)
            if tasks:
                limit = self._limit(len(tasks), len(resident) + len(waiting), most)
                groups.append(Group(size, tasks, self._worth(size, tasks, state.now), limit))
        return sorted(groups, key=lambda group: -group.worth)

    def _limit(self, chosen: int, known: int, most: int) -> str:
        if chosen == known:
            return ""
        if chosen < most:
            return "slots"
        return "budget" if most >= self._most_rows else "saturation"

    def newcomers(self, state: State, candidates: Sequence[Task]) -> list[Task]:
        """Who gets the free slots: the most urgent, and rather those that make a call larger than a new one."""
        queued = _queued(state.waiting)
        batches = {size: self.batch(size, min(round(count), state.slots)) for size, count in queued.items()}
        scores = {task.number: self._score(task, batches.get(task.size, 1), state.now) for task in candidates}
        residents = Counter(task.size for task in state.denoising)
        left, chosen = list(candidates), list[Task]()
        while left and len(chosen) < state.free:
            total = max(1, residents.total())
            best = max(
                left,
                key=lambda task: (scores[task.number] * (1 + _COMPANY * residents[task.size] / total), -task.number),
            )
            left.remove(best)
            chosen.append(best)
            residents[best.size] += 1
        return chosen

    def batch(self, size: Size, tasks: int) -> int:
        """How many of so many tasks of a size run at once."""
        return self._batches.of((size, tasks), lambda: self._batch(size, tasks))

    def _batch(self, size: Size, tasks: int) -> int:
        counts = range(1, max(1, min(tasks, self._most_rows)) + 1)
        return min(counts, key=lambda u: (self.row_s(size, u) * (_TO_COME * tasks / u + 1), u))

    def row_s(self, size: Size, rows: int) -> float:
        """Seconds of a round of so many rows without decodings."""
        return self._time(size, rows)[0]

    def _time(self, size: Size, rows: int) -> tuple[float, float]:
        """Seconds of so many rows, and of a decoding, alone."""
        return self._times.of(
            (size, rows),
            lambda: (self._table.round_s({size: (rows, 0)}, {})[0], self._table.round_s({}, {size: 1})[1]),
        )

    def _choose(
        self, resident: Iterable[Task], waiting: Iterable[Task], most: int, free: int, now: float
    ) -> list[Task]:
        scored = [(self._score(task, most, now), task.number, task, False) for task in resident]
        if free:
            scored += [(self._score(task, most, now), task.number, task, True) for task in waiting]
        scored.sort(key=lambda entry: (-entry[0], entry[1]))
        chosen: list[Task] = []
        for _, _, task, waits in scored:
            if len(chosen) == most:
                break
            if waits:
                if not free:
                    continue
                free -= 1
            chosen.append(task)
        return chosen

    def _score(self, task: Task, batch: int, now: float) -> float:
        rows_s, decoding_s = self._time(task.size, batch)
        work_s = task.rows_left * rows_s + decoding_s
        return self._urgency.weight(task, now, work_s) / max(work_s, 1e-12)

    def _worth(self, size: Size, tasks: Sequence[Task], now: float) -> float:
        rows_s, decoding_s = self._time(size, len(tasks))
        best = weight = 0.0
        for done, task in enumerate(sorted(tasks, key=lambda task: task.rows_left), 1):
            seconds = task.rows_left * rows_s + done * decoding_s
            weight += self._urgency.weight(task, now, seconds)
            best = max(best, weight / max(seconds, 1e-12))
        return best


def _queued(waiting: Sequence[Task]) -> dict[Size, float]:
    """How many of each size wait, judged by the oldest."""
    oldest = waiting[:_SAMPLE]
    return {size: count * len(waiting) / len(oldest) for size, count in Counter(task.size for task in oldest).items()}
