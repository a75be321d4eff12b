"""The benchmark's parts, one after the other: servers started, loads sent, faults made, what HTTP adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import httpx

from headrace.benchmarks._progress import Show
from headrace.benchmarks._prompts import PROMPTS
from headrace.benchmarks._serving.ask import Style
from headrace.benchmarks._serving.contest import Contest, capacities, contest, warm_up
from headrace.benchmarks._serving.fault import killed_under_load
from headrace.benchmarks._serving.generator import Job, Target
from headrace.benchmarks._serving.loads import BURST, DEADLINES, HIGH, LOW, MEDIUM, Draw, Load, recorded, streamed
from headrace.benchmarks._serving.overhead import Overhead, measure_overhead
from headrace.benchmarks._serving.peer import check_prompts
from headrace.benchmarks._serving.process import run_load
from headrace.benchmarks._serving.servers import headrace_server, peer_server, told_to_end
from headrace.benchmarks._serving.study import OURS, PEER, Study
from headrace.benchmarks._serving.style import style_for
from headrace.request import Request
from headrace.service.settings import ServiceSettings
from headrace.service.supervisor import Supervisor
from headrace.serving.trace import load_trace

SOLVER, GUIDANCE = "dpm++2m", 4.0
_PREVIEWS = 2
_START_S = 300.0


@dataclass(frozen=True)
class Scale:
    """How much is run.

    Attributes:
        loads: names of those that both servers get.
        seconds: that the arrivals of a turn take, about.
        turns: of each load.
        steps: fewest and most of a request.
        crowd: requests that are sent at once to measure a capacity.
        pairs: of requests that measure what HTTP adds; 0 for none.
        kills: of the engine in a load of its own; 0 for no such load, nor one that is streamed.
    """

    loads: tuple[str, ...]
    seconds: float
    turns: int
    steps: tuple[int, int]
    crowd: int
    pairs: int
    kills: int


@dataclass(frozen=True)
class Watch:
    """Who is told how far it is, and of every load that is over."""

    show: Show
    tell: Callable[[Contest], None]


FULL = Scale((LOW, MEDIUM, HIGH, BURST, DEADLINES), seconds=30, turns=2, steps=(10, 30), crowd=16, pairs=50, kills=3)
QUICK = Scale((HIGH,), seconds=2, turns=1, steps=(10, 20), crowd=8, pairs=20, kills=0)


def compare(model: str, device: str, trace: Path | None, scale: Scale, watch: Watch) -> Study:
    """`headrace serve` beside the plain server, both with `model`; a `trace` takes the place of the drawn loads.

    Raises `ServiceError` where a server does not start, `TraceError`, and `ModelError`.
    """
    check_prompts(model)
    style = Style(sized=False, guidance=GUIDANCE, solver=SOLVER)
    given = None if trace is None else recorded(load_trace(trace), replace(style, sized=True))
    overhead = measure_http(model, device, scale.pairs, watch.show) if scale.pairs else None
    with told_to_end(), peer_server(model, device) as peer, headrace_server(model, device) as ours:
        for server in (peer, ours):
            server.wait()
        targets = {PEER: peer.target, OURS: ours.target}
        draw = Draw(scale.seconds, scale.turns, scale.steps, style)
        warm_up(targets, draw.crowd(2, turn=-1))
        found = capacities(targets, draw, scale.crowd, scale.turns, watch.show)
        loads = [given] if given else [draw.load(name, found[PEER]) for name in scale.loads]
        study = Study(OURS, found, _contests(loads, targets, watch), overhead=overhead)
        if not scale.kills:
            return study
        calm = given or draw.load(LOW, found[PEER])
        previews = run_load(Job(ours.target, streamed(calm, 1.0, _PREVIEWS)), partial(watch.show, "streamed"))
        hit = streamed(given or draw.load(HIGH, found[PEER]), 0.5, _PREVIEWS)
        return replace(
            study, previews=previews, faulted=killed_under_load(ours.target, ours.pid, hit, scale.kills, watch.show)
        )


def measure_url(target: Target, model: str | None, trace: Path | None, scale: Scale, watch: Watch) -> Study:
    """Any server of OpenAI's images API, at multiples of its own capacity; or a `trace`, as it is.

    Raises `HeadraceError` where it does not answer or has another model, and `TraceError`.
    """
    given = None if trace is None else load_trace(trace)
    style = style_for(target, model)
    name = httpx.URL(target.url).netloc.decode("ascii")
    targets = {name: target}
    if given is not None:
        return Study(name, {}, _contests([recorded(given, replace(style, sized=True))], targets, watch))
    draw = Draw(scale.seconds, scale.turns, scale.steps, style)
    warm_up(targets, draw.crowd(2, turn=-1))
    found = capacities(targets, draw, scale.crowd, scale.turns, watch.show)
    contests = _contests([draw.load(load, found[name]) for load in scale.loads], targets, watch)
    if not style.extended:
        return Study(name, found, contests)
    previews = run_load(Job(target, streamed(contests[0].load, 1.0, _PREVIEWS)), partial(watch.show, "streamed"))
    return Study(name, found, contests, previews)


def _contests(loads: Sequence[Load], targets: Mapping[str, Target], watch: Watch) -> list[Contest]:
    found = []
    for load in loads:
        found.append(contest(load, targets, watch.show))
        watch.tell(found[-1])
    return found


def measure_http(model: str, device: str, pairs: int, show: Show) -> Overhead:
    """What HTTP adds to one-step requests, with a service and its app in this process."""
    service = Supervisor(ServiceSettings(model, device=device, measure_s=0.0))
    service.start(_START_S)
    try:
        request = Request(prompt=PROMPTS[0], steps=1, solver=SOLVER, guidance_scale=GUIDANCE)
        return measure_overhead(service, request, pairs, show)
    finally:
        service.stop()
