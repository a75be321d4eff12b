"""The engine itself under open-loop arrivals: requests come when the trace says, whether it keeps up or not."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from headrace.benchmarks._progress import Show
from headrace.benchmarks._prompts import PROMPTS
from headrace.benchmarks._scheduler.comparison import PAPERS_BASELINE, Study
from headrace.benchmarks._scheduler.own_house import SOLVER, Effort, own_house, own_mix
from headrace.benchmarks._scheduler.simulated import BURST, draw_workloads
from headrace.engine import Engine, EngineSettings
from headrace.models.pipelines.base import Pipeline
from headrace.request import Request
from headrace.serving.arrivals import poisson
from headrace.serving.latency_table import LatencyTable
from headrace.serving.load_study import BASELINES, CONTENDERS, SYNERGETIC, House, Run, Workload
from headrace.serving.loop import Loop
from headrace.serving.report import Records, summarise
from headrace.serving.served import Served
from headrace.serving.state import Policy
from headrace.serving.trace import Trace


@dataclass(frozen=True)
class RealScale:
    """How much the engine is given.

    Attributes:
        effort: what is measured before.
        requests: under each load.
        crowd: requests for each slot, all at once, that a peak is measured with.
        loads: names of the loads; empty: all.
        ablated: the loads under which parts are left out as well.
    """

    effort: Effort
    requests: int
    crowd: int
    loads: tuple[str, ...] = ()
    ablated: tuple[str, ...] = ()


REAL = RealScale(
    Effort(slots=16, sizes=3, steps=(20, 50), repeats=3, pictures=16, starts=8), 96, 4, ablated=("high", BURST)
)
QUICK_REAL = RealScale(Effort(slots=8, sizes=1, steps=(10, 20), repeats=3, pictures=4, starts=4), 24, 3, ("high",))
_LOOK_S = 0.5  # seconds after which a loop that only waits is looked at again
_HUGE = 1 << 40  # bytes: slots bound what is resident, so that all policies have the same room


def serve_loads(pipeline: Pipeline, table: LatencyTable | None, floor: float, scale: RealScale, show: Show) -> Study:
    """Every policy on the engine, and the ablations under some loads.

    Without a `table` this machine's is measured first. Loads are multiples of what `continuous` serves here when
    requests never lack. `show(name, share)` moves a bar.
    """
    effort = scale.effort
    mix = own_mix(pipeline, effort, table)
    house = own_house(pipeline, mix, effort, floor, show, table)
    contenders = (*BASELINES, SYNERGETIC)
    _serve(pipeline, house, SYNERGETIC, poisson(effort.slots, math.inf, mix))  # whatever is slow the first time
    crowd = poisson(effort.slots * scale.crowd, math.inf, mix)
    peaks = {}
    for place, name in enumerate(contenders):
        peaks[name] = summarise(_serve(pipeline, house, name, crowd)).throughput
        show("peaks", (place + 1) / len(contenders))
    workloads = draw_workloads(scale.requests, peaks[PAPERS_BASELINE], mix)
    chosen = {name: one for name, one in workloads.items() if name in (scale.loads or workloads)}
    return Study(peaks, _runs(pipeline, house, chosen, scale.ablated, show))


def _runs(
    pipeline: Pipeline, house: House, workloads: Mapping[str, Workload], ablated: Collection[str], show: Show
) -> dict[str, Sequence[Run]]:
    """By load; parts are left out under those that are `ablated`."""
    found: dict[str, list[Run]] = {name: [] for name in workloads}
    for place, (name, workload) in enumerate(workloads.items()):
        for contender in CONTENDERS if name in ablated else (*BASELINES, SYNERGETIC):
            records = _serve(pipeline, house, contender, workload.trace)
            found[name].append(Run(contender, workload, summarise(records, house.window), None, records))
            show(contender, (place + 1) / len(workloads))
    return dict(found)


def _serve(pipeline: Pipeline, house: House, contender: str, trace: Trace) -> Records:
    """One policy, one trace, an engine of its own with the lane that the table was measured with."""
    settings = EngineSettings(slots=house.slots, memory_bytes=_HUGE, lane=house.table.lane)
    engine = Engine(pipeline, settings)
    try:
        return serve(engine, house.policy(contender)(), trace)
    finally:
        engine.close()


def serve(engine: Engine, policy: Policy, trace: Trace) -> Records:
    """Submits every request of a trace at its time and waits for all. Raises what a request failed with.

    A request counts as arrived when the trace says, so that a slow hand does not hide the time that it takes. The loop
    is driven by this thread: with a second team of OpenMP threads in the process the first one's workers sleep between
    parallel regions, and calls on a CPU take up to 1.8 times as long (measured, libgomp).
    """
    loop = Loop(engine, policy)
    due = deque(zip(trace.time.tolist(), _requests(trace), strict=True))
    futures: list[Future[Served]] = []
    began = time.monotonic()
    while due or not all(future.done() for future in futures):
        while due and due[0][0] <= time.monotonic() - began:
            futures.append(loop.submit(due.popleft()[1]))
        until = loop.turn()
        if until is not None:
            arrival = began + due[0][0] if due else math.inf
            time.sleep(max(0.0, min(until, arrival, time.monotonic() + _LOOK_S) - time.monotonic()))
    loop.stop()
    served = [future.result() for future in futures]
    for one in served:
        if one.result.error is not None:
            raise one.result.error
    return _records(served, trace, began)


def _requests(trace: Trace) -> list[Request]:
    columns = zip(trace.height.tolist(), trace.width.tolist(), trace.steps.tolist(), strict=True)
    return [
        Request(
            prompt=PROMPTS[number % len(PROMPTS)], solver=SOLVER, steps=steps, height=height, width=width, seed=number
        )
        for number, (height, width, steps) in enumerate(columns)
    ]


def _records(served: Sequence[Served], trace: Trace, began: float) -> Records:
    def moments(name: str) -> np.ndarray:
        return np.array([getattr(one, name) for one in served], dtype=np.float64) - began

    first = [math.nan if one.task.first_skip is None else one.task.first_skip for one in served]
    return Records(
        arrived=trace.time,
        started=moments("started"),
        denoised=moments("denoised"),
        finished=moments("finished"),
        rows=np.array([one.task.rows for one in served]),
        skips=np.array([one.task.skips for one in served]),
        first_skip=np.array(first),
        deadline=trace.deadline,
    )
