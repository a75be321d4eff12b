"""What `headrace simulate` does: words read, workloads drawn, policies run, files written."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import typer

from headrace.cli.arrival_words import DRAWN, rate_of, sizes_of, steps_of
from headrace.cli.pictures import prepare_folder
from headrace.cli.simulate_display import progress, run_table
from headrace.errors import HeadraceWarning, TraceError
from headrace.files import write_json
from headrace.serving.arrivals import Mix
from headrace.serving.latency_table import LatencyTable
from headrace.serving.load_study import CONTENDERS, House, Run, Workload, run
from headrace.serving.paper import paper_window, shipped_table
from headrace.serving.scheduler import POLICIES
from headrace.serving.skip_window import SkipWindow
from headrace.serving.state import Size
from headrace.serving.timeline import Timeline
from headrace.serving.trace import load_trace

_REQUESTS = 2000
_ROUNDS = 48  # in the picture of a timeline
_LEAST_ROOM = 1 << 20  # bytes


@dataclass(frozen=True)
class Asked:
    """The command's options, as they were typed."""

    trace: str
    policy: str
    latency_table: str
    skip_window: str | None
    floor: float | None
    rates: str | None
    requests: int | None
    sizes: str | None
    steps: str
    guided: float
    deadline: float | None
    slots: int
    replicas: int
    seed: int


def simulate_all(asked: Asked, out: Path | None, as_json: bool) -> None:
    """Runs every policy under every load. Everything that can be refused is, before any work."""
    if out is not None:
        prepare_folder(out, _LEAST_ROOM)
    table = shipped_table() if asked.latency_table == "paper" else LatencyTable.load(asked.latency_table)
    house = House(table, _window(asked), asked.slots, asked.replicas, asked.floor)
    policies = _policies(asked.policy)
    for name in policies:
        house.policy(name)()
    workloads, capacity = _workloads(asked, house)
    runs: list[Run] = []
    timelines: dict[str, Timeline] = {}
    with progress(len(policies) * sum(len(one.trace) for one in workloads)) as advance:
        for workload in workloads:
            for name in policies:
                timelines[name] = Timeline(_middle(workload), _ROUNDS * asked.replicas)
                runs.append(run(house, name, workload, partial(advance, name), timelines[name]))
    figures = {
        "latency_table": f"{table.model}, {table.machine}", "lane": table.lane, "slots": asked.slots,
        "replicas": asked.replicas, "seed": asked.seed, "capacity": capacity, "runs": [one.to_dict() for one in runs],
    }  # fmt: skip
    written = [] if out is None else _write(out, figures, runs, timelines)
    if as_json:
        typer.echo(json.dumps(figures))
        return
    run_table(runs, capacity)
    if written:
        typer.echo(f"written: {', '.join(written)} in {out}")


def _policies(text: str) -> list[str]:
    named: list[str] = []
    for name in text.split(","):
        word = name.strip()
        named += {"all": POLICIES, "ablations": CONTENDERS}.get(word, (word,))
    return list(dict.fromkeys(named))


def _window(asked: Asked) -> SkipWindow | None:
    named = asked.skip_window or ("paper" if asked.latency_table == "paper" else "none")
    if named == "none":
        return None
    if named == "paper":
        return paper_window()
    from headrace.techniques.guidance.artefact import GuidanceArtefact

    found = GuidanceArtefact.load(named)
    return SkipWindow(found.starts, found.shares, found.similarity)


def _workloads(asked: Asked, house: House) -> tuple[list[Workload], float | None]:
    """What arrives, and the capacity where it was needed."""
    drawn = DRAWN.fullmatch(asked.trace)
    if drawn is None:
        if asked.rates is not None:
            raise TraceError(f"--rates was given beside the file {asked.trace!r}", "Use it with poisson or burst")
        trace = load_trace(Path(asked.trace))
        if asked.requests is not None:
            trace = trace.first(asked.requests)
        _warn_of_sizes(trace.sizes, house)
        return [Workload(Path(asked.trace).name, trace)], None
    sizes = tuple(entry.size for entry in house.table.sizes) if asked.sizes is None else sizes_of(asked.sizes)
    mix = Mix(sizes, steps_of(asked.steps), asked.guided, asked.deadline)
    _warn_of_sizes(mix.sizes, house)
    kind, count = drawn[1], asked.requests or _REQUESTS
    loads, rate = _loads(asked.rates, drawn[2])
    if rate is not None:
        return [Workload.drawn(kind, count, rate, mix, asked.seed)], None
    capacity = house.capacity(mix, asked.seed)
    return [Workload.drawn(kind, count, load * capacity, mix, asked.seed, load) for load in loads], capacity


def _loads(rates: str | None, rate: str | None) -> tuple[list[float], float | None]:
    """Multiples of the capacity, or requests a second."""
    if rates is not None:
        return sorted({rate_of(part, "--rates", "--rates 0.5,1,1.5") for part in rates.split(",")}), None
    if rate is None:
        raise TraceError("--trace names no rate", "Write poisson:2.5, poisson:0.9x, or use --rates")
    value = rate_of(rate.removesuffix("x"), "--trace", "poisson:2.5 or poisson:0.9x")
    return ([value], None) if rate.endswith("x") else ([], value)


def _warn_of_sizes(sizes: Sequence[Size], house: House) -> None:
    known = {entry.size for entry in house.table.sizes}
    odd = [f"{width}x{height}" for height, width in sizes if (height, width) not in known]
    if odd:
        warnings.warn(
            f"{', '.join(odd)} was not measured: latencies are those of the nearest size in the table, by area",
            HeadraceWarning,
            stacklevel=2,
        )


def _middle(workload: Workload) -> float:
    return float(workload.trace.time[len(workload.trace) // 2])


def _write(out: Path, figures: dict[str, object], runs: Sequence[Run], timelines: dict[str, Timeline]) -> list[str]:
    """Names of the files. The timelines are those of the last workload."""
    from headrace.cli.simulate_plots import draw_loads, draw_run
    from headrace.cli.simulate_timeline import draw_timeline

    write_json(out / "simulation.json", figures, indent=1)
    written = ["simulation.json"]
    if len({one.workload.name for one in runs}) > 1:
        draw_loads(runs, out / "loads.png")
        written.append("loads.png")
    else:
        draw_run(runs, out / "run.png")
        written.append("run.png")
    last = runs[-1].workload.name
    for name, timeline in timelines.items():
        if timeline.rounds:
            draw_timeline(timeline, f"{name}: {last}", out / f"timeline-{name}.png")
            written.append(f"timeline-{name}.png")
    return written
