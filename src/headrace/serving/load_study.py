"""Policies and their ablations under equal loads: what the command line and the benchmark simulate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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

SYNERGETIC = "synergetic"
BASELINES = tuple(name for name in POLICIES if name != SYNERGETIC)
WITHOUT = tuple(f"no-{part}" for part in ABLATIONS)  # the synergetic policy with one part left out
CONTENDERS = (*POLICIES, *WITHOUT)
_SATURATING = 40  # requests for each slot: what is left when the last slots empty is little beside them


@dataclass(frozen=True, eq=False)
class House:
    """Who serves.

    Attributes:
        table: latencies of each machine.
        window: in which guidance may be skipped; None: nowhere.
        slots: requests on each machine at once.
        replicas: machines.
        floor: similarity that no skip may go below, 0 to 1; None: the policy's own.
    """

    table: LatencyTable
    window: SkipWindow | None
    slots: int = 16
    replicas: int = 1
    floor: float | None = None

    def policy(self, name: str) -> Callable[[], Policy]:
        """What makes a policy, or the synergetic one with a part left out. Raises `ServingError` for an unknown one."""
        if name not in CONTENDERS:
            raise ServingError(f"there is no policy {name!r}", f"Known: {', '.join(CONTENDERS)}; all: the first four")
        if name in BASELINES:
            return lambda: make_policy(name, self.table, self.window)
        options: dict[str, Any] = {} if name == SYNERGETIC else {name.removeprefix("no-"): False}
        if self.floor is not None:
            options["tau_min"] = self.floor
        return lambda: make_policy(SYNERGETIC, self.table, self.window, **options)

    def peak(self, policy: str, mix: Mix, seed: int = 0) -> float:
        """Requests a second that a policy serves when requests never lack."""
        requests = _SATURATING * self.slots * self.replicas
        trace = poisson(requests, math.inf, mix, seed)
        found = simulate(trace, self.table, self.policy(policy), self.slots, self.replicas)
        return summarise(found.records).throughput

    def capacity(self, mix: Mix, seed: int = 0) -> float:
        """What loads are multiples of: the peak of `continuous`."""
        return self.peak("continuous", mix, seed)


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
    effort: Effort | None  # None where it was not simulated
    records: Records

    def to_dict(self) -> dict[str, object]:
        """Figures as JSON values."""
        return {
            "policy": self.policy,
            "workload": self.workload.name,
            "rate": self.workload.rate,
            "load": self.workload.load,
            **self.report.to_dict(),
            "unet_kept": None if self.effort is None else self.effort.unet_kept,
            "rounds": None if self.effort is None else self.effort.rounds,
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
