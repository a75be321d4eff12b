"""The engine itself under open-loop arrivals."""

from __future__ import annotations

from headrace.benchmarks._progress import Show
from headrace.benchmarks._scheduler.comparison import Study
from headrace.benchmarks.registry import BenchOptions


def serve_loads(options: BenchOptions, show: Show) -> Study | None:
    """Every policy on the engine, with arrivals at the loads of `simulated`; None while nothing serves.

    A `Run` of each holds `summarise(Records(...))` of the loop's moments, so that its figures are defined alike.
    `show(name, share)` moves a bar.
    """
    return None
