"""The engine itself under open-loop arrivals: requests come when the trace says, whatever became of earlier ones."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.benchmarks._progress import Show
from headrace.benchmarks._scheduler.comparison import PAPERS_BASELINE, Study
from headrace.benchmarks._scheduler.simulated import BURST, BURST_LOAD, LOADS
from headrace.benchmarks._scheduler.subject import QUICK, Scale, Subject, measure_subject
from headrace.benchmarks.registry import BenchOptions
from headrace.engine import Engine, EngineSettings
from headrace.serving.load_study import WITHOUT, Run, Workload
from headrace.serving.loop import Loop, Served
from headrace.serving.report import Records, summarise
from headrace.serving.scheduler import POLICIES
from headrace.serving.trace import Trace


@dataclass(frozen=True)
class Plan:
    """What is served.

    Attributes:
        scale: of the measurements before it.
        requests: under each load, and to find the capacity.
        loads: multiples of the capacity, by name.
        ablated: the loads that ablations are served under, too.
        slots: of the engine.
    """

    scale: Scale
    requests: int
    loads: Mapping[str, float]
    ablated: tuple[str, ...]
    slots: int


FULL = Plan(Scale(), 64, LOADS, ("extreme",), 16)
FEW = Plan(QUICK, 6, {"extreme": LOADS["extreme"]}, (), 4)


def serve_loads(options: BenchOptions, floor: float, show: Show) -> tuple[Subject, Study]:
    """Every policy on the engine with the arrivals of `simulated`, latencies and skip window measured before.

    Ablations are served at the extreme load alone. `show(name, share)` moves a bar. Raises `ModelError`.
    """
    asked = FEW if options.quick else FULL
    subject = measure_subject(options, asked.scale, asked.slots, floor, show)
    at_once = Workload.drawn("poisson", asked.requests, math.inf, subject.mix)
    _serve(subject, PAPERS_BASELINE, at_once)  # every size and batch once, before anything counts
    peaks = {}
    for place, name in enumerate(POLICIES):
        peaks[name] = serve(subject, name, at_once).report.throughput
        show("capacity", (place + 1) / len(POLICIES))
    workloads = _workloads(asked, subject, peaks[PAPERS_BASELINE])
    runs: dict[str, Sequence[Run]] = {}
    for load, workload in workloads.items():
        names = (*POLICIES, *WITHOUT) if load in asked.ablated else POLICIES
        found = []
        for place, name in enumerate(names):
            found.append(serve(subject, name, workload))
            show(f"serving, {load}", (place + 1) / len(names))
        runs[load] = found
    return subject, Study(peaks, runs)


def _workloads(asked: Plan, subject: Subject, capacity: float) -> dict[str, Workload]:
    workloads = {
        name: Workload.drawn("poisson", asked.requests, load * capacity, subject.mix, load=load)
        for name, load in asked.loads.items()
    }
    burst = Workload.drawn("burst", asked.requests, BURST_LOAD * capacity, subject.mix, load=BURST_LOAD)
    return {**workloads, BURST: burst}


def serve(subject: Subject, policy: str, workload: Workload) -> Run:
    """One policy on a new engine. A request that failed raises its error."""
    records = _records(_serve(subject, policy, workload), workload.trace)
    return Run(policy, workload, summarise(records, subject.house.window), None, records)


def _serve(subject: Subject, policy: str, workload: Workload) -> tuple[float, list[Served]]:
    """When the trace's clock was at 0, and what became of its requests, in order."""
    house = subject.house
    requests = subject.requests(workload.trace)
    settings = EngineSettings(slots=house.slots, lane=house.table.lane, encode_ahead=True)
    engine = Engine(subject.pipeline, settings)
    try:
        with Loop(engine, house.policy(policy)()) as loop:
            start, futures = time.monotonic(), []
            for request, moment in zip(requests, workload.trace.time.tolist(), strict=True):
                time.sleep(max(0.0, start + moment - time.monotonic()))
                futures.append(loop.submit(request))
            return start, [future.result() for future in futures]
    finally:
        engine.close()


def _records(found: tuple[float, list[Served]], trace: Trace) -> Records:
    """A request arrived when the trace says: that it could not be handed over at once is waiting, too."""
    start, served = found
    for one in served:
        if one.result.error is not None:
            raise one.result.error
    tasks = [one.task for one in served]
    return Records(
        arrived=start + trace.time,
        started=np.array([one.started for one in served], dtype=np.float64),
        denoised=np.array([one.denoised for one in served], dtype=np.float64),
        finished=np.array([one.finished for one in served]),
        rows=np.array([task.rows for task in tasks]),
        skips=np.array([task.skips for task in tasks]),
        first_skip=np.array([math.nan if task.first_skip is None else task.first_skip for task in tasks]),
        deadline=np.full(len(tasks), math.inf),
    )
