"""SynerDiff's scheduler: how long it plans, and what it brings under low to extreme loads and a burst.

1. `dp_ms`: the dynamic programme for 16 rows, 8 decodings and 8 skips.
2. `simulated`: four policies and four ablations on a virtual clock, on the paper's contention written by hand, or with
   `--data` on the model's own table of `headrace calibrate latency`: Poisson arrivals at 0.5, 0.8, 1.2 and 1.5 of the
   capacity (what continuous batching with whole decodings serves when requests never lack) and a burst of half the
   requests; three sizes, 20 to 50 steps. Guidance is skipped to an expected similarity of 0.87 at worst, the paper's in
   a burst.
3. `real`: the engine itself with `--model` under such arrivals at such loads of its own capacity, in three sizes; its
   latency table, unless `--data` has it, and its skip window are measured before, in this run. A quick run has the
   four policies at the high load.

The headline is against continuous batching, as the paper's is against InstGenIE (1.6 times the throughput, 78.7% of
mean and P99 latency cut): the ratio of throughputs when requests never lack, and the largest cuts over the loads.
Beside it are the margins over the best baseline in each figure at each load. With `--out`, every run's figures and a
chart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from headrace.benchmarks._progress import bars
from headrace.benchmarks._scheduler.comparison import Study
from headrace.benchmarks._scheduler.display import ablations_table, margins_table, plot, runs_table
from headrace.benchmarks._scheduler.planning import measure_planning
from headrace.benchmarks._scheduler.real import QUICK_REAL, REAL, RealScale, serve_loads
from headrace.benchmarks._scheduler.simulated import simulate_loads
from headrace.benchmarks.registry import BenchOptions
from headrace.benchmarks.throughput import describe_device
from headrace.evaluation.machine import machine_name
from headrace.files import write_json
from headrace.models.pipelines.loading import load
from headrace.serving.arrivals import Mix
from headrace.serving.latency_table import LatencyTable
from headrace.serving.load_study import House
from headrace.serving.paper import paper_window, shipped_table
from headrace.serving.profile import identity
from headrace.serving.table_check import check_table

FLOOR = 0.87  # table II: DINO similarity of 0.872 in a burst


@dataclass(frozen=True)
class Scale:
    """How much is run: simulated requests a load, simulated slots, and how the engine is loaded."""

    requests: int
    slots: int
    real: RealScale


FULL = Scale(2000, 16, REAL)  # the paper: 5,000; queues of baselines that cannot keep up grow with it
QUICK = Scale(200, 16, QUICK_REAL)


def run(options: BenchOptions, console: Console, scale: Scale | None = None) -> Mapping[str, object]:
    """Runs the three parts. Raises `ArtefactError` for `--data` that is no table of this model, and `ModelError`."""
    scale = scale or (QUICK if options.quick else FULL)
    pipeline = load(options.model, device=options.device)
    own = None if options.data is None else LatencyTable.load(options.data)
    if own is not None:
        check_table(own, identity(pipeline, machine_name(pipeline.device)))
    table = own or shipped_table()
    planning = measure_planning(table)
    console.print(
        f"planning 16 rows, 8 decodings, 8 skips: {planning.median:.2f} ms (median), {planning.longest:.2f} (longest), "
        f"{planning.again:.2f} (the same again)"
    )
    house = House(table, paper_window(), scale.slots, floor=FLOOR)
    mix = Mix(tuple(entry.size for entry in table.sizes))
    with bars() as show:
        simulated = simulate_loads(house, mix, scale.requests, show)
    studies = {"simulated": simulated}
    _print(simulated, f"simulated on {table.model} ({table.machine})", console)
    with bars() as show:
        studies["real"] = serve_loads(pipeline, own, FLOOR, scale.real, show)
    _print(studies["real"], f"{options.model} on this machine ({describe_device(options.device)})", console)
    figures: dict[str, object] = {
        "dp_ms": round(planning.median, 4),
        "dp_ms_longest": round(planning.longest, 4),
        "dp_ms_again": round(planning.again, 4),
        **{name: study.figures() for name, study in studies.items()},
        "latency_table": table.model, "slots": scale.slots, "floor": FLOOR, "model": options.model,
        "device": describe_device(options.device),
    }  # fmt: skip
    if options.out is not None:
        _write(options.out, figures, studies)
    return figures


def _print(study: Study, title: str, console: Console) -> None:
    console.print(runs_table(study, title))
    console.print(margins_table(study))
    if study.ablations():
        console.print(ablations_table(study))


def _write(out: Path, figures: Mapping[str, object], studies: Mapping[str, Study]) -> None:
    runs = {name: study.details() for name, study in studies.items()}
    write_json(out / "scheduler.json", {**figures, "runs": runs}, indent=1)
    plot(studies, out / "scheduler.png")
