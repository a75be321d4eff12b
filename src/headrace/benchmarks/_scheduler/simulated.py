"""Every policy and ablation on a virtual clock, under low to extreme loads and a burst."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from headrace.benchmarks._scheduler.comparison import PAPERS_BASELINE, Study
from headrace.serving.arrivals import Mix
from headrace.serving.load_study import CONTENDERS, House, Run, Workload, run

LOADS = {"low": 0.5, "medium": 0.8, "high": 1.2, "extreme": 1.5}  # of the capacity
BURST, BURST_LOAD = "burst", 0.8  # half of the requests at once, the others at this load

Advance = Callable[[str, float], None]


def simulate_loads(house: House, mix: Mix, requests: int, advance: Advance, seed: int = 0) -> Study:
    """Serves the same requests with every contender at every load. `advance(name, share)` is told how far each is."""
    peaks = {name: house.peak(name, mix, seed) for name in CONTENDERS}
    capacity = peaks[PAPERS_BASELINE]
    workloads = {
        name: Workload.drawn("poisson", requests, load * capacity, mix, seed, load) for name, load in LOADS.items()
    }
    workloads[BURST] = Workload.drawn("burst", requests, BURST_LOAD * capacity, mix, seed, BURST_LOAD)
    runs: dict[str, Sequence[Run]] = {}
    for place, (name, workload) in enumerate(workloads.items()):
        found = []
        for contender in CONTENDERS:
            found.append(run(house, contender, workload))
            advance(contender, (place + 1) / len(workloads))
        runs[name] = found
    return Study(peaks, runs)
