"""Every policy and ablation on a virtual clock, under low to extreme loads and a burst."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from headrace.benchmarks._scheduler.comparison import PAPERS_BASELINE, Study
from headrace.serving.arrivals import Mix
from headrace.serving.load_study import CONTENDERS, House, Workload, run

LOADS = {"low": 0.5, "medium": 0.8, "high": 1.2, "extreme": 1.5}  # of the capacity
BURST, BURST_LOAD = "burst", 0.8  # half of the requests at once, the others at this load

Advance = Callable[[str, float], None]


def simulate_loads(house: House, mix: Mix, requests: int, advance: Advance, seed: int = 0) -> Study:
    """Serves the same requests with every contender at every load, in a process for each core.

    `advance(name, share)` is told how far each is.
    """
    # Processes that start anew: a fork would copy the threads' locks of whoever calls this.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        asked = {name: pool.submit(house.peak, name, mix, seed) for name in CONTENDERS}
        peaks = {name: peak.result() for name, peak in asked.items()}
        workloads = draw_workloads(requests, peaks[PAPERS_BASELINE], mix, seed)
        running = {
            pool.submit(run, house, contender, workload): (load, contender)
            for load, workload in workloads.items()
            for contender in CONTENDERS
        }
        found = {}
        for place, future in enumerate(as_completed(running)):
            found[running[future]] = future.result()
            advance("simulated", (place + 1) / len(running))
    return Study(peaks, {load: [found[load, contender] for contender in CONTENDERS] for load in workloads})


def draw_workloads(requests: int, capacity: float, mix: Mix, seed: int = 0) -> dict[str, Workload]:
    """Poisson arrivals at each load and a burst, by name; `capacity` in requests a second."""
    drawn = {
        name: Workload.drawn("poisson", requests, load * capacity, mix, seed, load) for name, load in LOADS.items()
    }
    return drawn | {BURST: Workload.drawn("burst", requests, BURST_LOAD * capacity, mix, seed, BURST_LOAD)}
