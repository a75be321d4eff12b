"""What the benchmark found, and the figures that are made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from headrace.benchmarks._serving.contest import Contest
from headrace.benchmarks._serving.fault import Faulted
from headrace.benchmarks._serving.loads import DEADLINES, HIGH, RECORDED
from headrace.benchmarks._serving.outcome import Outcome
from headrace.benchmarks._serving.overhead import Overhead
from headrace.benchmarks._serving.pictures import largest_difference
from headrace.benchmarks._serving.summary import Summary, summarise

OURS, PEER = "headrace", "diffusers"


@dataclass(frozen=True)
class Study:
    """Everything that was measured.

    Attributes:
        ours: name of the server that the figures are of.
        capacities: pictures a second where requests never lack, by server.
        contests: by load.
        previews: a load of streamed requests on our server alone; empty where it was not run.
        faulted: a load during which its engine was killed; None where it was not run.
        overhead: of HTTP; None where it was not measured.
    """

    ours: str
    capacities: Mapping[str, float]
    contests: Sequence[Contest]
    previews: Sequence[Outcome] = field(default_factory=list)
    faulted: Faulted | None = None
    overhead: Overhead | None = None

    def runs(self) -> Iterator[tuple[str, str, Summary]]:
        """Load, server and figures."""
        for load, turns in self.contests:
            for server, outcomes in turns.items():
                yield load.name, server, summarise(outcomes)
        if self.previews:
            yield "streamed", self.ours, summarise([self.previews])
        if self.faulted is not None:
            yield f"killed {self.faulted.kills} times", self.ours, summarise([self.faulted.outcomes])

    def figures(self) -> dict[str, object]:
        """As JSON values; ratios are ours over the peer's and None without one (see `headrace.benchmarks.serving`)."""
        own = [summary for _, server, summary in self.runs() if server == self.ours]
        streamed = summarise([self.previews])
        return {
            "throughput_ratio": self._ratio("throughput"),
            "p99_ratio": self._ratio("p99_s"),
            "lost": sum(one.lost for one in own),
            "errors_5xx": sum(one.errors_5xx for one in own),
            "http_overhead_ms": None if self.overhead is None else self.overhead.added_ms,
            "mean_ratio": self._ratio("mean_s"),
            "capacity_ratio": self._over_peer(self.capacities),
            "capacity": {name: round(rate, 4) for name, rate in self.capacities.items()},
            "attainment": {s: summary.attainment for load, s, summary in self.runs() if load == DEADLINES},
            "first_preview_s": streamed.preview_p50_s and round(streamed.preview_p50_s, 4),
            "refused": sum(one.refused for one in own),
            "errors": _added(own),
            "answered_twice": sum(one.extra for one in own),
            "kills": 0 if self.faulted is None else self.faulted.kills,
            "max_pixel_difference": self._difference_from_peer(),
            "max_pixel_difference_after_kills": self._difference_after_kills(),
        }

    def details(self) -> dict[str, object]:
        """Every run's figures, and the parts of the overhead."""
        runs = [{"load": load, "server": server, **summary.to_dict()} for load, server, summary in self.runs()]
        return {"runs": runs, "overhead": None if self.overhead is None else asdict(self.overhead)}

    def main(self) -> Contest | None:
        """The load that ratios are of: the high one, or the recorded trace."""
        return next((one for one in self.contests if one.load.name in (HIGH, RECORDED)), None)

    def _ratio(self, figure: str) -> float | None:
        contest = self.main()
        if contest is None:
            return None
        return self._over_peer({name: getattr(summarise(turns), figure) for name, turns in contest.turns.items()})

    def _over_peer(self, values: Mapping[str, float | None]) -> float | None:
        own, peer = values.get(self.ours), values.get(PEER)
        return round(own / peer, 4) if own is not None and peer else None

    def _difference_from_peer(self) -> int | None:
        contest = self.main()
        if contest is None or PEER not in contest.turns:
            return None
        ours, theirs = (
            [one for turn in contest.turns[name] for one in turn] for name in (self.ours, PEER)
        )  # fmt: skip
        return largest_difference(ours, theirs)

    def _difference_after_kills(self) -> int | None:
        contest = self.main()
        if contest is None or self.faulted is None:
            return None
        return largest_difference(self.faulted.outcomes, contest.turns[self.ours][0])


def _added(summaries: Sequence[Summary]) -> dict[str, int]:
    found: dict[str, int] = {}
    for summary in summaries:
        for kind, count in summary.errors.items():
            found[kind] = found.get(kind, 0) + count
    return found
