"""Plans against the schedulers they were traced from: every traceable solver of the installed diffusers, float32."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import diffusers
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from headrace.benchmarks._solver_cases import SolverCase, cases, refused_options, unlisted
from headrace.benchmarks._solver_loop import plan_sample, relative_difference, scheduler_sample
from headrace.benchmarks.registry import BenchOptions
from headrace.errors import HeadraceError
from headrace.files import write_file
from headrace.plan import Plan
from headrace.plan.trace import clear_cache, trace

STEPS = (5, 12, 50)
BOUND = 1e-5
_TIMED_TRACES = 3


@dataclass(frozen=True)
class Measured:
    """One configuration: the largest relative difference over all step counts, and its trace at 50 steps.

    `difference` is between plan and scheduler in float32; `plan_error` and `scheduler_error`: how far each is from the
    scheduler run in float64 throughout; all at the step count where the difference is largest.
    """

    solver: str
    variant: str
    scheduler: str
    register: str
    history: int
    rows: int
    steps: int
    difference: float
    plan_error: float
    scheduler_error: float
    trace_ms: float

    @property
    def beyond_float32(self) -> bool:
        """Whether the scheduler's own rounding exceeds the bound while the plan's stays far below it."""
        return self.scheduler_error > BOUND / 2 and self.plan_error < BOUND / 10


def run(options: BenchOptions, console: Console) -> Mapping[str, object]:
    """Table and figures. `quick` takes the first variant of each solver; `out` receives the table and the JSON."""
    listed = [*cases(), *unlisted()]
    if options.quick:
        first: dict[str, SolverCase] = {}
        for case in listed:
            first.setdefault(case.solver, case)
        listed = list(first.values())
    measured, refused = _measure_all(listed, console)
    refused += [(case, _refusal(case)) for case in refused_options()]
    console.print(_table(measured))
    console.print(_refused_table(refused))
    figures = _figures(measured, refused)
    if options.out is not None:
        write_results(options.out, measured, refused, figures)
        console.print(f"written: {options.out / 'solvers.md'}, {options.out / 'solvers.json'}")
    return figures


def _measure_all(listed: Sequence[SolverCase], console: Console) -> tuple[list[Measured], list[tuple[SolverCase, str]]]:
    measured, refused = [], []
    verbosity = diffusers.utils.logging.get_verbosity()
    diffusers.utils.logging.set_verbosity_error()
    try:
        with Progress(console=console, transient=True) as progress, warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # some algorithm types are deprecated, and still traced
            for case in progress.track(listed, description="solvers"):
                try:
                    plans = _plans(case)
                except HeadraceError as error:
                    refused.append((case, error.problem))
                except (TypeError, ImportError) as error:  # the class itself cannot be built here
                    refused.append((case, " ".join(str(error).split())[:160]))
                else:
                    measured.append(_measure(case, plans))
    finally:
        diffusers.utils.logging.set_verbosity(verbosity)
    return measured, refused


def _plans(case: SolverCase) -> dict[int, Plan]:
    return {steps: trace(case.build(), steps, step_options=case.step_options, **case.schedule) for steps in STEPS}


def _measure(case: SolverCase, plans: Mapping[int, Plan]) -> Measured:
    worst: tuple[float, float, float, int] = (-1.0, 0.0, 0.0, 0)
    for steps, plan in plans.items():
        own, ours = scheduler_sample(case, steps), plan_sample(plan)
        exact = scheduler_sample(case, steps, torch.float64)
        errors = relative_difference(ours, exact), relative_difference(own, exact)
        worst = max(worst, (relative_difference(ours, own), *errors, steps))
    plan = plans[STEPS[-1]]
    return Measured(
        case.solver,
        case.variant,
        case.scheduler,
        plan.register,
        plan.history,
        len(plan),
        worst[3],
        worst[0],
        worst[1],
        worst[2],
        _trace_ms(case),
    )


def _trace_ms(case: SolverCase) -> float:
    best = float("inf")
    for _ in range(_TIMED_TRACES):
        scheduler = case.build()
        clear_cache()
        start = time.process_time()  # what else runs on the machine does not count
        trace(scheduler, STEPS[-1], step_options=case.step_options, **case.schedule)
        best = min(best, time.process_time() - start)
    return best * 1e3


def _refusal(case: SolverCase) -> str:
    try:
        trace(case.build(), STEPS[1], step_options=case.step_options, **case.schedule)
    except HeadraceError as error:
        return error.problem
    raise AssertionError(f"{case.scheduler} with {case.variant} was expected to be refused and has a plan now")


def _figures(measured: Sequence[Measured], refused: Sequence[tuple[SolverCase, str]]) -> dict[str, object]:
    within = [m for m in measured if not m.beyond_float32]
    worst = max(within, key=lambda m: m.difference)
    return {
        "solvers": len({m.solver for m in measured}),
        "worst_relative_difference": worst.difference,
        "worst_case": f"{worst.solver}, {worst.variant}, {worst.steps} steps",
        "configurations": len(measured),
        "scheduler_rounds_more_than_bound": [_rounding(m) for m in measured if m.beyond_float32],
        "slowest_trace_cpu_ms": round(max(m.trace_ms for m in measured), 1),
        "refused": len(refused),
    }


def _rounding(m: Measured) -> dict[str, object]:
    return {
        "case": f"{m.solver}, {m.variant}, {m.steps} steps",
        "difference": m.difference,
        "plan_from_float64": m.plan_error,
        "scheduler_from_float64": m.scheduler_error,
    }


_HEADERS = ("solver", "options", "register", "history", "rows at 50", "worst difference", "trace CPU ms at 50")


def _cells(m: Measured) -> tuple[str, ...]:
    difference = f"{m.difference:.1e}" + (" (*)" if m.beyond_float32 else "")
    return m.solver, m.variant, m.register, str(m.history), str(m.rows), difference, f"{m.trace_ms:.0f}"


_FOOTNOTE = "(*) diffusers' own rounding: its float32 run is over 5e-6 from its float64 run, the plan's under 1e-6"


def _table(measured: Sequence[Measured]) -> Table:
    table = Table(title=f"plan against scheduler, float32, {STEPS} steps", caption=_FOOTNOTE)
    for header in _HEADERS:
        table.add_column(header, justify="left" if header in _HEADERS[:3] else "right")
    for m in measured:
        table.add_row(*_cells(m))
    return table


def _refused_table(refused: Sequence[tuple[SolverCase, str]]) -> Table:
    table = Table("scheduler", "options", "why", title="no plan")
    for case, reason in refused:
        table.add_row(case.scheduler, case.variant, reason)
    return table


def write_results(
    folder: Path, measured: Sequence[Measured], refused: Sequence[tuple[SolverCase, str]], figures: Mapping[str, object]
) -> None:
    """Write solvers.md (both tables) and solvers.json (figures and every configuration) into `folder`, by rename."""
    lines = [
        _markdown(_HEADERS),
        _markdown(["---"] * len(_HEADERS)),
        *(_markdown(_cells(m)) for m in measured),
        "",
        _FOOTNOTE,
        "",
    ]
    lines += [_markdown(("scheduler", "options", "why there is no plan")), _markdown(["---"] * 3)]
    lines += [_markdown((case.scheduler, case.variant, reason)) for case, reason in refused]
    content = {"figures": dict(figures), "configurations": [asdict(m) for m in measured]}
    for name, text in (("solvers.md", "\n".join(lines) + "\n"), ("solvers.json", json.dumps(content, indent=1))):
        write_file(folder / name, partial(Path.write_text, data=text, encoding="utf-8"))


def _markdown(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
