"""What `headrace load` does: words read, requests sent, figures shown and written."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from headrace.benchmarks._progress import bars
from headrace.cli.arrival_words import DRAWN, rate_of, sizes_of, steps_of
from headrace.cli.pictures import prepare_folder
from headrace.errors import HeadraceError, TraceError
from headrace.files import write_json
from headrace.serving.arrivals import Mix, burst, poisson
from headrace.serving.trace import Trace, load_trace

if TYPE_CHECKING:
    from headrace.benchmarks._serving.generator import Job
    from headrace.benchmarks._serving.outcome import Outcome
    from headrace.benchmarks._serving.summary import Summary

_REQUESTS = 60
_LEAST_ROOM = 1 << 20  # bytes


@dataclass(frozen=True)
class Asked:
    """The command's options, as they were typed."""

    url: str
    trace: str
    requests: int | None
    model: str | None
    api_key_env: str | None
    sizes: str | None
    steps: str
    guided: float
    n: int
    stream: float
    previews: int
    deadline: float | None
    give_up: float
    seed: int


def send_load(asked: Asked, out: Path | None, as_json: bool) -> None:
    """Sends it all. Everything that can be refused is, before the first request."""
    if importlib.util.find_spec("httpx") is None:
        raise HeadraceError("httpx is not installed", "pip install 'headrace[serve]'")
    from headrace.benchmarks._serving.ask import asks
    from headrace.benchmarks._serving.generator import Job, Target
    from headrace.benchmarks._serving.style import style_for
    from headrace.benchmarks._serving.summary import summarise

    if not 0 < asked.give_up < math.inf:
        raise HeadraceError(f"--give-up is {asked.give_up:g}", "Give seconds above 0")
    if out is not None:
        prepare_folder(out, _LEAST_ROOM)
    trace, sized = _trace(asked)
    target = Target(asked.url.rstrip("/").removesuffix("/v1"), asked.api_key_env)
    style = replace(
        style_for(target, asked.model), sized=sized, streamed=asked.stream, previews=asked.previews, n=asked.n
    )
    outcomes = _sent(Job(target, asks(trace, style), asked.give_up))
    figures = summarise([outcomes])
    if out is not None:
        _write(out, figures, outcomes)
    if as_json:
        typer.echo(json.dumps(figures.to_dict()))
    else:
        Console().print(_table(figures, f"{len(trace)} requests to {asked.url}"))


def _trace(asked: Asked) -> tuple[Trace, bool]:
    """What arrives, and whether its sizes are sent."""
    drawn = DRAWN.fullmatch(asked.trace)
    if drawn is None:
        trace = load_trace(Path(asked.trace))
        return (trace if asked.requests is None else trace.first(asked.requests)), True
    if drawn[2] is None:
        raise TraceError("--trace names no rate", "Write, for example, --trace poisson:2.5, requests a second")
    rate = rate_of(drawn[2], "--trace", "poisson:2.5, requests a second")
    if drawn[2].endswith("x"):
        raise TraceError(f"the capacity that {asked.trace!r} is a multiple of is not known", "Write requests a second")
    mix = Mix(steps=steps_of(asked.steps), guided=asked.guided, patience=asked.deadline)
    if asked.sizes is not None:
        mix = replace(mix, sizes=sizes_of(asked.sizes))
    draw = burst if drawn[1] == "burst" else poisson
    return draw(asked.requests or _REQUESTS, rate, mix, asked.seed), asked.sizes is not None


def _sent(job: Job) -> list[Outcome]:
    """This process has nothing else to do meanwhile, so that the generator needs none of its own."""
    from headrace.benchmarks._serving.generator import play

    ended: list[int] = []
    with bars() as show:

        def tell(number: int, outcome: Outcome) -> None:
            ended.append(number)
            show("requests", len(ended) / len(job.asks))

        return asyncio.run(play(job, tell))


def _table(one: Summary, title: str) -> Table:
    table = Table("figure", title=title)
    table.add_column("value", justify="right")
    rows: dict[str, str] = {
        "done": f"{one.done} of {one.requests}",
        "images a second": f"{one.throughput:.3g} over {one.span_s:.1f} s",
        "latency mean, P50, P95, P99": _times(one.mean_s, one.p50_s, one.p95_s, one.p99_s),
        "first preview mean, P50, P95": _times(one.preview_mean_s, one.preview_p50_s, one.preview_p95_s),
        "deadlines met": "none asked for" if one.attainment is None else f"{one.attainment:.1%}",
        "refused (429)": str(one.refused),
        "lost (sent, never answered)": str(one.lost),
        "answered twice": str(one.extra),
    }
    rows |= {f"errors: {kind}": str(count) for kind, count in one.errors.items() if kind not in ("refused", "lost")}
    rows["the sender itself was late (P99)"] = f"{1000 * one.late_s:.1f} ms"
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _times(*seconds: float | None) -> str:
    return ", ".join("-" if one is None else f"{one:.2f}" for one in seconds) + " s"


def _write(out: Path, figures: Summary, outcomes: Sequence[Outcome]) -> None:
    details = {**figures.to_dict(), "outcomes": [one.to_dict() for one in outcomes]}
    write_json(out / "load.json", details, indent=1)
