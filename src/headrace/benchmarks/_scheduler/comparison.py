"""The synergetic policy beside the baselines: the same figures of runs that were simulated and of real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headrace.serving.load_study import BASELINES, SYNERGETIC, WITHOUT, Run
from headrace.serving.report import Report

PAPER_THROUGHPUT_RATIO, PAPER_LATENCY_CUT = 1.6, 0.787
PAPERS_BASELINE = "continuous"  # what InstGenIE does


@dataclass(frozen=True)
class Margin:
    """Ours against another: throughput as a ratio, latencies as the share that is cut."""

    load: str
    throughput_ratio: float
    mean_latency_cut: float
    p99_cut: float


def margin(load: str, ours: Report, others: Sequence[Report]) -> Margin:
    """Against the best of the others in each figure."""
    return Margin(
        load,
        ours.throughput / max(other.throughput for other in others),
        1 - ours.mean_latency_s / min(other.mean_latency_s for other in others),
        1 - ours.p99_latency_s / min(other.p99_latency_s for other in others),
    )


@dataclass(frozen=True)
class Study:
    """Every contender under every load.

    Attributes:
        peaks: images a second of each contender when requests never lack.
        runs: by the load's name.
    """

    peaks: Mapping[str, float]
    runs: Mapping[str, Sequence[Run]]

    def report(self, load: str, policy: str) -> Report:
        """Of one run."""
        return next(one.report for one in self.runs[load] if one.policy == policy)

    def margins(self, best: bool = False) -> list[Margin]:
        """Of each load, against the paper's baseline, or the best of all in each figure."""
        names = BASELINES if best else (PAPERS_BASELINE,)
        return [
            margin(load, self.report(load, SYNERGETIC), [self.report(load, name) for name in names])
            for load in self.runs
        ]

    def ablations(self) -> dict[str, dict[str, Margin]]:
        """What each part brings: the whole against the policy without it, by part and load."""
        found: dict[str, dict[str, Margin]] = {}
        for name in WITHOUT:
            for load, runs in self.runs.items():
                if any(one.policy == name for one in runs):
                    one = margin(load, self.report(load, SYNERGETIC), [self.report(load, name)])
                    found.setdefault(name, {})[load] = one
        return found

    @property
    def throughput_ratio(self) -> float:
        """Peak throughput over that of the paper's baseline."""
        return self.peaks[SYNERGETIC] / self.peaks[PAPERS_BASELINE]

    def figures(self) -> dict[str, object]:
        """As JSON values. Latency cuts are the largest over the loads, as the paper gives its own ("up to")."""
        margins = self.margins()
        similarities = [self.report(load, SYNERGETIC).worst_similarity for load in self.runs]
        known = [one for one in similarities if one is not None]
        return {
            "throughput_ratio": round(self.throughput_ratio, 4),
            "mean_latency_cut": round(max(one.mean_latency_cut for one in margins), 4),
            "p99_cut": round(max(one.p99_cut for one in margins), 4),
            "peaks": {name: round(value, 4) for name, value in self.peaks.items()},
            "over_continuous": [_rounded(one) for one in margins],
            "over_best_baseline": [_rounded(one) for one in self.margins(best=True)],
            "ablations": {
                name: [_rounded(one) for one in by_load.values()] for name, by_load in self.ablations().items()
            },
            "worst_similarity": round(min(known), 4) if known else None,
        }

    def details(self) -> list[dict[str, object]]:
        """Every run's figures as JSON values."""
        return [one.to_dict() | {"workload": load} for load, runs in self.runs.items() for one in runs]


def _rounded(one: Margin) -> dict[str, object]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in vars(one).items()}
