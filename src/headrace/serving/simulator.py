"""The simulator: policies, the very objects that drive the engine, on a virtual clock and a table of latencies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from headrace.errors import ServingError
from headrace.serving.latency_table import LatencyTable
from headrace.serving.ledger import Effort, Ledger
from headrace.serving.replica import Replica
from headrace.serving.report import Records
from headrace.serving.round_durations import RoundDurations
from headrace.serving.state import Policy, Task
from headrace.serving.timeline import Timeline
from headrace.serving.trace import Trace

_STRIDE = 256  # requests between two calls of `advance`
_AT_ONCE_S = 1.0  # of the virtual clock, between two calls of `advance` once all have arrived


@dataclass(frozen=True)
class Simulated:
    """What a simulation found: every request's record, in the order of the trace, and where the time went."""

    records: Records
    effort: Effort


def simulate(
    trace: Trace,
    table: LatencyTable,
    policy: Callable[[], Policy],
    slots: int = 16,
    replicas: int = 1,
    timeline: Timeline | None = None,
    advance: Callable[[int], object] | None = None,
) -> Simulated:
    """Serve a trace to its end.

    A replica's round lasts until its rows are done, and one without rows until a chunk is. A chunk that still runs then
    stays in flight: its rest counts as that fraction of a chunk in the load of the next round. A request goes to the
    replica with the least work left, in seconds of its rows and decoding alone, when it arrives, and stays there.
    Deciding takes no virtual time. Equal arguments give equal results.

    Args:
        trace: the arrivals.
        table: how long rounds take.
        policy: makes one policy for each replica.
        slots: of each replica.
        replicas: engines, each on its own device.
        timeline: collects rounds and chunks.
        advance: is told how many requests more are done, now and then.

    Raises `ServingError` for less than one slot or replica, and for a policy that stalls; `OrderError` for a round that
    cannot be run.
    """
    for name, value in (("slots", slots), ("replicas", replicas)):
        if value < 1:
            raise ServingError(f"{name} is {value}", "Give at least 1")
    times, ledger = RoundDurations(table), Ledger.empty(len(trace))
    fleet = _Fleet([Replica(number, policy(), slots, times, ledger, timeline) for number in range(replicas)])
    tell = _Progress(fleet, advance).tell
    for task in _tasks(trace):
        fleet.run_until(task.arrived)
        fleet.dispatch(task)
        if task.number % _STRIDE == 0:
            tell()
    while fleet.next_wake < math.inf:
        fleet.run_until(fleet.next_wake + _AT_ONCE_S)
        tell(_STRIDE)
    tell()
    for engine in fleet.engines:
        engine.check_done()
    return Simulated(ledger.records(trace), ledger.effort)


class _Fleet:
    """Replicas in the order in which they decide."""

    def __init__(self, engines: Sequence[Replica]) -> None:
        self.engines = engines
        self._wakes: list[tuple[float, int]] = []  # a heap; entries that are no replica's wake any more are passed over

    @property
    def next_wake(self) -> float:
        """When the next replica decides; infinite where none does."""
        wakes, engines = self._wakes, self.engines
        while wakes and engines[wakes[0][1]].wake != wakes[0][0]:
            heappop(wakes)
        return wakes[0][0] if wakes else math.inf

    def run_until(self, moment: float) -> None:
        """Everything that is decided before a moment."""
        wakes = self._wakes
        while wakes and wakes[0][0] < moment:
            wake, index = heappop(wakes)
            engine = self.engines[index]
            if engine.wake == wake:
                engine.step()
                self._remember(engine.wake, index)

    def dispatch(self, task: Task) -> None:
        """Gives a request that arrives to the replica with the least work left."""
        engines = self.engines
        index = min(range(len(engines)), key=lambda one: engines[one].work) if len(engines) > 1 else 0
        before = engines[index].wake
        engines[index].arrive(task)
        if engines[index].wake != before:
            self._remember(engines[index].wake, index)

    def _remember(self, wake: float, index: int) -> None:
        if wake < math.inf:
            heappush(self._wakes, (wake, index))


def _tasks(trace: Trace) -> Iterator[Task]:
    columns = (
        trace.time, trace.height, trace.width, trace.steps, trace.guided, trace.priority, trace.deadline
    )  # fmt: skip
    sizes = {size: size for size in trace.sizes}  # one object a size
    for number, (time, height, width, steps, guided, priority, deadline) in enumerate(
        zip(*(column.tolist() for column in columns), strict=True)
    ):
        bound = None if deadline == math.inf else deadline
        size = sizes[height, width]
        yield Task(number, size, time, steps, guided=guided, priority=priority, deadline=bound)


class _Progress:
    def __init__(self, fleet: _Fleet, advance: Callable[[int], object] | None) -> None:
        self._engines = fleet.engines
        self._advance = advance
        self._told = 0

    def tell(self, least: int = 1) -> None:
        """How many more are done, where they are at least so many."""
        if self._advance is None:
            return
        done = sum(engine.done for engine in self._engines)
        if done - self._told >= least:
            self._advance(done - self._told)
            self._told = done
