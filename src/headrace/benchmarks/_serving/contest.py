"""The same loads against several servers, in turns, never two of them at once."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from headrace.benchmarks._progress import Show
from headrace.benchmarks._serving.ask import Ask
from headrace.benchmarks._serving.generator import Job, Target
from headrace.benchmarks._serving.loads import HIGH, RECORDED, Draw, Load
from headrace.benchmarks._serving.outcome import DONE, Outcome
from headrace.benchmarks._serving.process import Advance, run_load
from headrace.benchmarks._serving.summary import summarise
from headrace.errors import ServiceError

Turns = list[list[Outcome]]
Send = Callable[[Job, Advance], list[Outcome]]


class Contest(NamedTuple):
    """A load and what became of it, by the server's name."""

    load: Load
    turns: Mapping[str, Turns]


def contest(load: Load, targets: Mapping[str, Target], show: Show, send: Send = run_load) -> Contest:
    """Every turn of a load on every server; who begins alternates, so that a slow spell of the machine hits all.

    Pictures are kept of the load that they are compared at. `send` sends a turn's requests and returns when all ended.
    """
    keep = load.name in (HIGH, RECORDED)
    found: dict[str, Turns] = {name: [] for name in targets}
    for number, asked in enumerate(load.turns):
        for name in _order(targets, number):
            place, label = (number, len(load.turns)), f"{load.name}: {name}"

            def advance(share: float, place: tuple[int, int] = place, label: str = label) -> None:
                show(label, (place[0] + share) / place[1])

            found[name].append(send(Job(targets[name], asked, keep=keep), advance))
    return Contest(load, found)


def warm_up(targets: Mapping[str, Target], asked: Sequence[Ask]) -> None:
    """Sends a few requests to each. Raises `ServiceError` where one is not answered with pictures."""
    for name, target in targets.items():
        for one in run_load(Job(target, asked)):
            if one.kind != DONE:
                status = "" if one.status is None else f" (status {one.status})"
                raise ServiceError(f"{name} did not answer with a picture{status}: {one.kind}: {one.message}")


def capacities(targets: Mapping[str, Target], draw: Draw, count: int, turns: int, show: Show) -> dict[str, float]:
    """Pictures a second of each where requests never lack: `count` at once, medians over the turns."""
    rates: dict[str, list[float]] = {name: [] for name in targets}
    for turn in range(turns):
        for name in _order(targets, turn):
            outcomes = run_load(Job(targets[name], draw.crowd(count, turn)))
            rates[name].append(summarise([outcomes]).throughput)
            show(f"capacity: {name}", (turn + 1) / turns)
    found = {name: statistics.median(values) for name, values in rates.items()}
    for name, rate in found.items():
        if rate <= 0:
            raise ServiceError(f"{name} answered none of {count} requests that were sent at once")
    return found


def _order(targets: Mapping[str, Target], turn: int) -> list[str]:
    names = list(targets)
    return names if turn % 2 == 0 else names[::-1]
