"""Policies and their ablations under equal loads: what the command line and the benchmark simulate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from headrace.errors import ServingError
from headrace.serving.arrivals import Mix, burst, poisson
from headrace.serving.latency_table import LatencyTable
from headrace.serving.ledger import Effort
from headrace.serving.report import Records, Report, summarise
from headrace.serving.scheduler import ABLATIONS, POLICIES, make_policy
from headrace.serving.simulator import simulate
from headrace.serving.skip_window import SkipWindow
from headrace.serving.state import Policy
from headrace.serving.timeline import Timeline
from headrace.serving.trace import Trace

WITHOUT = tuple(f"no-{part}" for part in ABLATIONS)  # the synergetic policy with one part left out
CONTENDERS = (*POLICIES, *WITHOUT)
_SATURATING = 40  # requests for each slot: what is left when the last slots empty is little beside them


@dataclass(frozen=True, eq=False)
class House:
    """Who serves: machines by their latencies, places on each, and the window in which guidance may be skipped."""

    table: LatencyTable
    window: SkipWindow | None
    slots: int = 16
    replicas: int = 1

    def policy(self, name: str) -> Callable[[], Policy]:
        """What makes a policy, or the synergetic one with a part left out. Raises `ServingError` for an unknown one."""
        if name not in CONTENDERS:
            raise ServingError(f"there is no policy {name!r}", f"Known: {', '.join(CONTENDERS)}; all: the first four")
        if name in POLICIES:
            return lambda: make_policy(name, self.table, self.window)
        left_out = {name.removeprefix("no-"): False}
        return lambda: make_policy("synergetic", self.table, self.window, **left_out)

    def capacity(self, mix: Mix, seed: int = 0) -> float:
        """Requests a second that `continuous` serves when requests never lack: what loads are multiples of."""
        requests = _SATURATING * self.slots * self.replicas
        trace = poisson(requests, math.inf, mix, seed)
        found = simulate(trace, self.table, self.policy("continuous"), self.slots, self.replicas)
        return summarise(found.records).throughput


@dataclass(frozen=True, eq=False)
class Workload:
    """Arrivals with a name; `rate` a second and `load`, a multiple of the capacity, where they are known."""

    name: str
    trace: Trace
    rate: float | None = None
    load: float | None = None

    @classmethod
    def drawn(cls, kind: str, count: int, rate: float, mix: Mix, seed: int = 0, load: float | None = None) -> Workload:
        """`kind` is poisson or burst. Raises `TraceError`."""
        draw = {"poisson": poisson, "burst": burst}[kind]
        shown = f"{rate:g}" if load is None else f"{load:g}x"
        return cls(f"{kind}:{shown}", draw(count, rate, mix, seed), rate, load)


@dataclass(frozen=True, eq=False)
class Run:
    """One policy under one load."""

    policy: str
    workload: Workload
    report: Report
    effort: Effort
    records: Records

    def to_dict(self) -> dict[str, object]:
        """Figures as JSON values."""
        return {
            "policy": self.policy,
            "workload": self.workload.name,
            "rate": self.workload.rate,
            "load": self.workload.load,
            **self.report.to_dict(),
            "unet_kept": self.effort.unet_kept,
            "rounds": self.effort.rounds,
        }


def run(
    house: House,
    policy: str,
    workload: Workload,
    advance: Callable[[int], object] | None = None,
    timeline: Timeline | None = None,
) -> Run:
    """Simulates a workload. Raises `ServingError` for an unknown policy."""
    found = simulate(workload.trace, house.table, house.policy(policy), house.slots, house.replicas, timeline, advance)
    return Run(policy, workload, summarise(found.records, house.window), found.effort, found.records)
