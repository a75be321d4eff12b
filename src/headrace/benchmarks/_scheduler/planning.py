"""How long the dynamic programme takes for 16 rows, 8 decodings and 8 skips."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import numpy as np

from headrace.serving.latency_table import LatencyTable
from headrace.serving.schedule import StagePlanner

ROWS, DECODINGS, SKIPS = 16, 8, 8
_ETAS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5)
_WEIGHTS = (0.0, 1.0, 8.0)


@dataclass(frozen=True)
class Planning:
    """Milliseconds of processor time of one plan.

    Attributes:
        median, longest: of planners that never planned before, all that they keep built anew.
        again: median where a planner was asked the same before.
    """

    median: float
    longest: float
    again: float


def measure_planning(table: LatencyTable) -> Planning:
    """Plans for every size and chunk count of a table, several thresholds and weights of waiting tasks."""
    first, again = [], []
    for entry in table.sizes:
        for chunks in (grid.chunks for grid in entry.grids):
            rows, decodings, skips = np.ix_(np.arange(ROWS + 1), np.arange(DECODINGS + 1), np.arange(SKIPS + 1))
            times = [
                seconds(entry.size, rows, decodings, np.minimum(skips, rows), chunks)
                for seconds in (table.unet_s, table.vae_s)
            ]
            planner = StagePlanner(times[0], times[1])
            for weight in _WEIGHTS:
                for eta in _ETAS:
                    first.append(_milliseconds(StagePlanner(times[0], times[1]), eta, weight))
                    _milliseconds(planner, eta, weight)
                    again.append(_milliseconds(planner, eta, weight))
    return Planning(statistics.median(first), max(first), statistics.median(again))


def _milliseconds(planner: StagePlanner, eta: float, weight: float) -> float:
    began = time.thread_time()
    planner.plan(ROWS, DECODINGS, SKIPS, eta, weight)
    return 1000 * (time.thread_time() - began)
