"""The paper's policy: planned cycles of rows and decoder chunks; skipping and chunking are fed back from the queue."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from headrace.errors import ServingError
from headrace.serving.controller import Controller, Limits, check_tau
from headrace.serving.latency_table import LatencyTable
from headrace.serving.policies.cycle import Batch, Cycles
from headrace.serving.policies.doors import Doors
from headrace.serving.policies.fairness import Fairness
from headrace.serving.policies.groups import Groups
from headrace.serving.policies.planners import Planners
from headrace.serving.policies.urgency import Urgency
from headrace.serving.schedule import check_eta
from headrace.serving.skip_window import SkipWindow
from headrace.serving.state import Round, State, Task


@dataclass(frozen=True)
class Settings:
    """How the synergetic policy decides.

    Attributes:
        eta: share of UNet latency that splitting a cycle into stages may cost.
        tau: quality threshold where there is no controller, 0 to 1.
        tau_min: quality floor of the controller, 0 to 1, for every picture (the paper's are at 0.91 on average under
            extreme load, and at 0.87 in a burst).
        tau_max: its threshold without load, 0 to 1.
        low: requests in the house, as a share of the slots, from which on the controller skips.
        high: the share at which it is at the floor.
        ageing: the objective is the sum of latency ** ageing; 1 is the mean, larger is kinder to the slowest.
        patience: rounds that a resident may be passed over in.
        overtakes: later requests that may be admitted before one that waits.
        max_rows: rows in a batch at most.
        chunking: decodings may be cut into chunks.
        skipping: rows may leave out their unconditional branch.
        planning: cycles are planned; else every round holds everything.
        control: tau and chunks follow the queue; else they stay at `tau` and the table's count.
    """

    eta: float = 0.1
    tau: float = 0.95
    tau_min: float = 0.87
    tau_max: float = 1.0
    low: float = 0.25
    high: float = 1.0
    ageing: float = 4.0
    patience: int = 64
    overtakes: int = 64
    max_rows: int = 32
    chunking: bool = True
    skipping: bool = True
    planning: bool = True
    control: bool = True

    def __post_init__(self) -> None:
        """Raises `ServingError`."""
        check_eta(self.eta)
        for name in ("tau", "tau_min", "tau_max"):
            check_tau(getattr(self, name), name)
        if not 1 <= self.ageing <= 10:
            raise ServingError(f"ageing is {self.ageing}", "Give an exponent from 1 to 10")
        for name in ("patience", "overtakes", "max_rows"):
            if getattr(self, name) < 1:
                raise ServingError(f"{name} is {getattr(self, name)}", "Give at least 1")


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Tasks for the rows of a cycle, and why there are no more of them, in `Round.reason`'s words."""

    tasks: list[Task]
    limit: str


class Synergetic:
    """Plans cycle after cycle.

    Nobody waits for ever. A resident that was passed over in `patience` rounds runs after at most as many cycles as
    there are slots; a cycle has at most 16 rounds, and before it each of the other slots may have a decoding to end. A
    request that waits is overtaken by at most `overtakes` later ones, and those of one round more, once it is among the
    32 oldest.
    """

    name = "synergetic"

    def __init__(self, table: LatencyTable, window: SkipWindow | None = None, settings: Settings | None = None) -> None:
        """Without a window nothing is skipped. Raises `ServingError` for settings that do not fit together."""
        self.settings = settings = settings or Settings()
        self._window = window if settings.skipping else None
        chunks, most = (table.chunks, table.max_chunks) if settings.chunking else (1, 1)
        limits = Limits(settings.tau_min, settings.tau_max, chunks, most, settings.low, settings.high)
        self.controller = Controller(limits) if settings.control else None
        self._chunks = chunks
        self._planners = Planners(table, settings.eta)
        self._cycles = Cycles(table, self._planners)
        self._groups = Groups(table, Urgency(settings.ageing), settings.max_rows)
        self._fairness = Fairness(settings.patience, settings.overtakes)
        self._doors = Doors()
        self._ahead: deque[Round] = deque()

    @property
    def tau(self) -> float:
        """The similarity that a picture keeps at least, as it is now."""
        return self.settings.tau if self.controller is None else self.controller.tau

    @property
    def chunks(self) -> int:
        """Into how many chunks a decoding that begins may be cut now."""
        return self._chunks if self.controller is None else self.controller.chunks

    def next(self, state: State) -> Round:
        """As `Policy.next`."""
        if self.controller is not None:
            requests = len(state.waiting) + len(state.denoising) + len(state.decoding)
            self.controller.observe(requests, state.slots)
        self._fairness.notice(state.waiting)
        house, state = state, self._doors.seen(state)
        decided = self._planned_before(state)
        if decided is None:
            cycle = self._cycle(state, self._rows(state))
            decided = cycle[0] if cycle else Round(reason="decoding" if _rows_left(state) else "all")
            self._ahead.extend(cycle[1:])
        if decided.reason == "slots" and house.free and state is not house:
            decided = replace(decided, reason="room")
        self._fairness.record(state, decided)
        self._doors.admitted(decided)
        return decided

    def prepare(self, state: State) -> None:
        """Plans the cycle that `state` would begin, so that `next` finds its schedules. Not while `next` runs."""
        if not self._ahead:
            self._cycle(state, self._rows(state))

    def _planned_before(self, state: State) -> Round | None:
        """The cycle's next round without what has gone; None where the cycle is over."""
        while self._ahead:
            planned = self._ahead.popleft()
            resident = {task.number: task for task in state.denoising}
            pending = {task.number for task in state.decoding} - state.in_flight
            rows = tuple(number for number in planned.rows if number in resident)
            skip = frozenset(number for number in planned.skip & set(rows) if self._may_skip(resident[number]))
            decode = tuple(number for number in planned.decode if number in pending)
            if rows or decode:
                return replace(planned, rows=rows, skip=skip, decode=decode)
        return None

    def _cycle(self, state: State, chosen: _Chosen) -> list[Round]:
        rows = chosen.tasks
        pending = [task for task in state.decoding if task.number not in state.in_flight]
        if self._together(state):
            return self._everything(state, chosen, pending)
        batch = Batch(
            rows,
            frozenset(task.number for task in rows if self._may_skip(task)),
            pending[: self._planners.most_decodings],
            len(state.denoising) + len(state.waiting),
            min(len(state.waiting), len(pending)) if not state.free else 0,
            not state.in_flight,
        )
        rounds = self._cycles.rounds(batch, sorted({1, self._chunks, self.chunks}))
        return _admitting([_explained(decided, chosen) for decided in rounds], state)

    def _rows(self, state: State) -> _Chosen:
        """The tasks of the group that is worth most, or of those that waited too long; all where they run together."""
        if not self.settings.planning:
            limit = "slots" if len(state.waiting) > state.free else "all"
            return _Chosen([*state.denoising, *state.waiting[: state.free]], limit)
        candidates = self._fairness.candidates(state.waiting) if state.free and state.waiting else []
        if self._together(state):
            newcomers = self._groups.newcomers(state, candidates)
            return _Chosen([*state.denoising, *newcomers], "slots" if len(newcomers) == state.free else "fairness")
        overdue = self._fairness.overdue(state.denoising, candidates)
        groups = self._groups.of(state, candidates)
        others = "size" if len(groups) > 1 else "fairness" if len(candidates) < len(state.waiting) else "all"
        if not overdue:
            return _Chosen(list(groups[0].tasks), groups[0].limit or others) if groups else _Chosen([], others)
        group = next(group for group in groups if group.size == overdue[0].size)
        first = [task for task in overdue if task.size == group.size][: len(group.tasks)]
        numbers = {task.number for task in first}
        chosen = first + [task for task in group.tasks if task.number not in numbers]
        kept = _within(chosen[: len(group.tasks)], state)
        return _Chosen(kept, "slots" if len(kept) < len(group.tasks) else group.limit or others)

    def _together(self, state: State) -> bool:
        """Whether a round holds all residents.

        Where more wait than there are slots, residents that pause would keep others out. Every slot runs then, and the
        calls of all sizes together hide the decodings.
        """
        return not self.settings.planning or len(state.waiting) > state.free

    def _everything(self, state: State, chosen: _Chosen, pending: list[Task]) -> list[Round]:
        skip = frozenset(task.number for task in chosen.tasks if self._may_skip(task))
        decided = Round(
            rows=tuple(task.number for task in chosen.tasks),
            skip=skip,
            decode=tuple(task.number for task in pending),
            chunks=self.chunks,
            reason=chosen.limit,
        )
        return _admitting([decided], state)

    def _may_skip(self, task: Task) -> bool:
        if self._window is None or not task.guided:
            return False
        if task.first_skip is None and task.row < self._window.begin(self.tau) * task.rows:
            return False
        return self._window.allows(task, self.tau)


def _rows_left(state: State) -> bool:
    return bool(state.denoising or state.waiting)


def _explained(decided: Round, chosen: _Chosen) -> Round:
    """A round of a cycle, with the reason why it has no more rows."""
    if len(decided.rows) == len(chosen.tasks):
        reason = chosen.limit
    elif decided.rows:
        reason = "stage"
    else:
        reason = "decoding"
    return replace(decided, reason=reason)


def _admitting(rounds: list[Round], state: State) -> list[Round]:
    """The first round admits whoever has a row in any of them and no slot yet."""
    resident = {task.number for task in state.denoising}
    admit = tuple(number for decided in rounds for number in decided.rows if number not in resident)
    return [replace(rounds[0], admit=admit), *rounds[1:]] if admit else rounds


def _within(chosen: list[Task], state: State) -> list[Task]:
    """No more new ones than there are free slots."""
    resident = {task.number for task in state.denoising}
    free, kept = state.free, []
    for task in chosen:
        if task.number not in resident:
            if not free:
                continue
            free -= 1
        kept.append(task)
    return kept
