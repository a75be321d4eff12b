"""The simulator: policies, the very objects that drive the engine, on a virtual clock and a table of latencies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from headrace.errors import ServingError
from headrace.serving.latency_table import LatencyTable
from headrace.serving.ledger import Effort, Ledger
from headrace.serving.replica import Replica
from headrace.serving.report import Records
from headrace.serving.round_times import RoundTimes
from headrace.serving.state import Policy, Task
from headrace.serving.timeline import Timeline
from headrace.serving.trace import Trace

_STRIDE = 256  # requests between two calls of `advance`
_WAKE, _WORK = attrgetter("wake"), attrgetter("work")


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
    Equal arguments give equal results.

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
    times, ledger = RoundTimes(table), Ledger.empty(len(trace))
    engines = [Replica(number, policy(), slots, times, ledger, timeline) for number in range(replicas)]
    progress = _Progress(engines, advance)
    for task in _tasks(trace):
        _run_until(engines, task.arrived)
        min(engines, key=_WORK).arrive(task)
        if task.number % _STRIDE == 0:
            progress.tell()
    while any(engine.wake < math.inf for engine in engines):
        min(engines, key=_WAKE).step()
        progress.tell(_STRIDE)
    progress.tell()
    for engine in engines:
        engine.check_done()
    return Simulated(ledger.records(trace), ledger.effort)


def _run_until(engines: Sequence[Replica], moment: float) -> None:
    """Everything that is decided before a moment, in order."""
    while (first := min(engines, key=_WAKE)).wake < moment:
        first.step()


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
    def __init__(self, engines: Sequence[Replica], advance: Callable[[int], object] | None) -> None:
        self._engines = engines
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
