"""One engine as the simulator knows it: slots, a policy, and rounds whose durations are looked up."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from operator import attrgetter

from headrace.errors import OrderError, ServingError
from headrace.serving.ledger import Ledger
from headrace.serving.round_durations import RoundDuration, RoundDurations
from headrace.serving.sharing import level, share_at_end
from headrace.serving.state import Policy, Round, Size, State, Task
from headrace.serving.timeline import ChunkSpan, RoundSpan, Timeline

_NUMBER = attrgetter("number")
_IDLE = RoundDuration(0.0, 0.0, 0.0, 1.0)
_NEARLY = 1 - 1e-9  # of a chunk: done, but for rounding
_TINY = 1e-12  # seconds: a decoder that takes none


class Replica:
    """Runs one round after another.

    Attributes:
        wake: when it decides next, seconds; infinite while only an arrival could change anything.
        work: seconds left of its requests' rows and decodings, each alone.
        done: requests that are finished.
    """

    def __init__(
        self,
        number: int,
        policy: Policy,
        slots: int,
        times: RoundDurations,
        ledger: Ledger,
        timeline: Timeline | None = None,
    ) -> None:
        self.wake = math.inf
        self.work = 0.0
        self.done = 0
        self._number = number
        self._policy = policy
        self._slots = slots
        self._times = times
        self._ledger = ledger
        self._timeline = timeline
        self._alone: dict[Size, tuple[float, float]] = {}
        self._asleep = True  # an arrival wakes it
        self._waiting: list[Task] = []  # each in order of arrival, which is that of tickets
        self._denoising: list[Task] = []
        self._decoding: list[Task] = []
        # The round that runs.
        self._began = 0.0
        self._time = _IDLE
        self._rows: frozenset[int] = frozenset()
        self._skip: frozenset[int] = frozenset()
        self._left: dict[int, float] = {}  # of a chunk of each decoding that is in flight
        self._told: dict[int, float] = {}  # chunks that the timeline follows: when they began

    def arrive(self, task: Task) -> None:
        """A request comes in at `task.arrived`."""
        row, decoding = self._alone_s(task.size)
        self.work += task.rows * row + decoding
        self._waiting.append(task)
        if self._asleep:
            self.wake = task.arrived

    def step(self) -> None:
        """Ends the round that runs and begins the next, at `wake`. Raises `OrderError`, `ServingError`."""
        now = self.wake
        if self._left:
            self._advance_chunks(now)
        if self._rows:
            self._advance_rows(now)
        in_flight = frozenset(self._left)
        state = State(now, self._waiting, self._denoising, self._decoding, in_flight, self._slots)
        self._begin(self._policy.next(state), now)

    def check_done(self) -> None:
        """Raises `ServingError` where requests are left, which the policy would never serve."""
        left = len(self._waiting) + len(self._denoising) + len(self._decoding)
        if left:
            raise ServingError(
                f"policy {self._policy.name!r} stalls with {len(self._waiting)} requests waiting, "
                f"{len(self._denoising)} denoising and {len(self._decoding)} decoding",
                "A round without rows and chunks needs an arrival, a chunk in flight or wait_until to be followed",
            )

    def _advance_rows(self, now: float) -> None:
        rows, skip, still = self._rows, self._skip, []
        for task in self._denoising:
            if task.number in rows:
                self.work -= self._alone_s(task.size)[0]
                task = _after_row(task, task.number in skip)
                if task.row == task.rows:
                    self._denoised(task, now)
                    continue
            still.append(task)
        self._denoising = still

    def _denoised(self, task: Task, now: float) -> None:
        ledger, number = self._ledger, task.number
        ledger.denoised[number] = now
        if task.skips:
            ledger.skips[number] = task.skips
            ledger.first_skip[number] = task.first_skip
        insort(self._decoding, task, key=_NUMBER)

    def _advance_chunks(self, now: float) -> None:
        """Chunks share the decoder: the one with least left is done first, the last one when the table says."""
        time, rests = self._time, self._rests()
        works = list(rests.values())
        reached = level(works, time.share(now - self._began))
        for place, task in reversed(list(enumerate(self._decoding))):
            rest = rests.get(task.number)
            if rest is None:
                continue
            if rest * _NEARLY <= reached:
                del self._left[task.number]
                self._chunk_done(place, task, min(now, self._began + time.moment(share_at_end(works, rest))))
            else:
                self._left[task.number] *= 1 - reached / rest

    def _chunk_done(self, place: int, task: Task, moment: float) -> None:
        began = self._told.pop(task.number, None)
        if began is not None and self._timeline is not None:
            span = ChunkSpan(self._number, task.number, task.size, task.chunk, task.chunks, began, moment)
            self._timeline.chunks.append(span)
        if task.chunk + 1 < task.chunks:
            self._decoding[place] = _after_chunk(task, task.chunks)
            return
        del self._decoding[place]
        self._ledger.finished[task.number] = moment
        self.work -= self._alone_s(task.size)[1]
        self.done += 1

    def _rests(self) -> dict[int, float]:
        """What is left of each chunk in flight, in seconds alone."""
        return {
            task.number: max(_TINY, self._left[task.number] * self._alone_s(task.size)[1] / task.chunks)
            for task in self._decoding
            if task.number in self._left
        }

    def _begin(self, order: Round, now: float) -> None:
        if order.admit:
            self._admit(order.admit, now)
        self._rows, self._skip = frozenset(order.rows), order.skip
        groups = self._groups(order) if order.rows else {}
        if order.decode:
            self._start_chunks(order, now)
        self._began = now
        chunks, loads = self._load()
        time = self._time = self._times(groups, loads, chunks) if groups or loads else _IDLE
        self._asleep = order.idle and not order.admit
        if groups:
            self.wake = now + time.unet_s
            self._account(len(order.rows), time, bool(loads))
        elif order.admit and order.idle:
            self.wake = now
        else:
            self.wake = self._wait(order, now)
        if self._timeline is not None and groups and self._timeline.follows(now):
            self._timeline.rounds.append(RoundSpan(self._number, now, self.wake, groups, len(self._waiting)))

    def _admit(self, tickets: tuple[int, ...], now: float) -> None:
        for number in tickets:
            place = bisect_left(self._waiting, number, key=_NUMBER)
            if place == len(self._waiting) or self._waiting[place].number != number:
                raise self._refused(f"admits {number}, which does not wait")
            insort(self._denoising, self._waiting.pop(place), key=_NUMBER)
            self._ledger.started[number] = now
        if len(self._denoising) + len(self._decoding) > self._slots:
            raise self._refused(f"admits {len(tickets)} requests, more than its {self._slots} slots have room for")

    def _groups(self, order: Round) -> dict[Size, tuple[int, int]]:
        """(rows, rows that evaluate one branch) of each size."""
        groups: dict[Size, tuple[int, int]] = {}
        found = skipped = 0
        for task in self._denoising:
            if task.number not in self._rows:
                continue
            found += 1
            leaves = task.number in self._skip
            if leaves and not task.guided:
                raise self._refused(f"skips the unconditional branch of {task.number}, whose next row has none")
            rows, single = groups.get(task.size, (0, 0))
            groups[task.size] = rows + 1, single + (leaves or not task.guided)
            skipped += leaves
        if found < len(order.rows) or skipped < len(order.skip):
            known = {task.number for task in self._denoising}
            odd = sorted(set(order.rows) - known) or sorted(order.skip - self._rows) or "a row twice"
            raise self._refused(f"asks for rows or skips of {odd}, which have none to run")
        return groups

    def _start_chunks(self, order: Round, now: float) -> None:
        if order.chunks < 1:
            raise self._refused(f"cuts decodings into {order.chunks} chunks")
        wanted = set(order.decode)
        for place, task in enumerate(self._decoding):
            if task.number not in wanted:
                continue
            wanted.discard(task.number)
            if task.number in self._left:
                raise self._refused(f"decodes {task.number}, whose last chunk still runs")
            if task.chunks == 0:
                self._decoding[place] = _after_chunk(task, order.chunks, begun=False)
            self._left[task.number] = 1.0
            if self._timeline is not None and self._timeline.follows(now):
                self._told[task.number] = now
        if wanted:
            raise self._refused(f"decodes {sorted(wanted)}, which are not ready for it")

    def _load(self) -> tuple[int, dict[Size, float]]:
        """The coarsest chunk count in flight, and how many chunks of that count are left of each size."""
        flying = [task for task in self._decoding if task.number in self._left]
        coarsest = min((task.chunks for task in flying), default=1)
        loads: dict[Size, float] = {}
        for task in flying:
            loads[task.size] = loads.get(task.size, 0.0) + self._left[task.number] * coarsest / task.chunks
        return coarsest, loads

    def _wait(self, order: Round, now: float) -> float:
        """When to decide again after a round without rows: a chunk is done, or what it waits for comes."""
        until = math.inf
        if self._left:
            works = list(self._rests().values())
            until = now + self._time.moment(share_at_end(works, min(works)))
        if not order.idle or order.wait_until is None:
            return until
        if order.wait_until <= now:
            raise self._refused(f"waits until {order.wait_until}, which is not after {now}")
        return min(until, order.wait_until)

    def _account(self, rows: int, time: RoundDuration, beside: bool) -> None:
        effort = self._ledger.effort
        effort.rounds += 1
        effort.rows += rows
        effort.unet_s += time.unet_s
        effort.unet_alone_s += time.alone_s
        if beside:
            effort.beside_s += time.unet_s
            effort.beside_alone_s += time.alone_s

    def _alone_s(self, size: Size) -> tuple[float, float]:
        """Seconds of a row and of a decoding alone."""
        found = self._alone.get(size)
        if found is None:
            found = self._alone[size] = self._times.row_alone_s(size), self._times.decoding_alone_s(size)
        return found

    def _refused(self, problem: str) -> OrderError:
        return OrderError(f"policy {self._policy.name!r} {problem}", "Name tasks of the state it was given")


# `dataclasses.replace` takes four times as long, and a million requests have forty million rows.
def _after_row(task: Task, skipped: bool) -> Task:
    first = task.first_skip
    if skipped and first is None:
        first = task.row / task.rows
    return Task(
        task.number, task.size, task.arrived, task.rows, task.row + 1, task.guided, task.skips + skipped, first,
        0, 0, task.priority, task.deadline,
    )  # fmt: skip


def _after_chunk(task: Task, chunks: int, begun: bool = True) -> Task:
    return Task(
        task.number, task.size, task.arrived, task.rows, task.row, task.guided, task.skips, task.first_skip,
        chunks, task.chunk + begun, task.priority, task.deadline,
    )  # fmt: skip
