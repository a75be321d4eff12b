"""The replicas that are there, kept up to date."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from headrace.service.cluster.forecast import Standing
from headrace.service.cluster.messages import Report
from headrace.service.status import Load, RoundSeen, Status


@dataclass
class Roster:
    """Replicas by id, and what the ones that are gone had counted.

    Attributes:
        lost: replicas that went without being asked to.
    """

    standings: dict[str, Standing] = field(default_factory=dict)
    lost: int = 0
    _past_restarts: int = 0

    def add(self, name: str) -> Standing:
        """A replica under the smallest number that is free, so that one that replaces another takes its place."""
        taken = {one.number for one in self.standings.values()}
        number = next(n for n in range(len(taken) + 1) if n not in taken)
        standing = self.standings[name] = Standing(name, number)
        return standing

    def remove(self, name: str, lost: bool) -> None:
        """A replica is there no more; `lost`: nobody asked it to go."""
        standing = self.standings.pop(name, None)
        if standing is None:
            return
        self.lost += lost
        if standing.report is not None:
            self._past_restarts += standing.report.status.restarts

    def forget(self, ticket: str) -> None:
        """An order is over."""
        for standing in self.standings.values():
            standing.sent.pop(ticket, None)

    @property
    def reports(self) -> list[Report]:
        """The last of every replica that has reported."""
        return [one.report for one in self.standings.values() if one.report is not None]

    def state(self, begun: bool) -> str:
        """Of the cluster: ready where any replica is; `begun`: it has been ready before."""
        states = {report.status.state for report in self.reports}
        for state in ("ready", "restarting"):
            if state in states:
                return state
        return "restarting" if begun else "starting"

    def status(self, state: str, held: Iterable[float], now: float, row_s: float) -> Status:
        """All replicas' as one. `held`: rows of wishes that no replica has.

        What can be added is added; `clear_s` is the last replica's, `max_rows` the least of all.
        """
        held = list(held)
        everyone = list(self.standings.values())
        loads = [report.status.load for report in self.reports]
        unreported = [rows for one in everyone for rows in one.unreported.values()]
        clear = max((one.clear_s(now, row_s) for one in everyone if one.report), default=0.0)
        load = Load(
            sum(one.waiting for one in loads) + len(unreported) + len(held),
            sum(one.denoising for one in loads),
            sum(one.decoding for one in loads),
            sum(one.rows for one in loads) + round(sum(unreported) + sum(held)),
            clear + sum(held) * row_s / max(1, len(everyone)),
        )
        statuses = [report.status for report in self.reports]
        return Status(
            state,
            load,
            restarts=self._past_restarts + self.lost + sum(one.restarts for one in statuses),
            max_rows=min((one.max_rows for one in statuses if one.max_rows), default=0),
            memory_bytes=sum(one.memory_bytes for one in statuses),
            policy=statuses[0].policy if statuses else "",
            replicas=sum(one.state == "ready" for one in statuses),
            problem="; ".join(dict.fromkeys(one.problem for one in statuses if one.problem)),
        )


def round_here(seen: RoundSeen, standing: Standing) -> RoundSeen:
    """A round of a replica on this process's clock, under the replica's number."""
    return replace(seen, replica=standing.number, at=seen.at + (standing.offset or 0.0))
