"""`headrace plan show`: the plan of a solver, or one that was saved, as a table, a picture, JSON or a file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli.fusion import HELP
from headrace.errors import CorruptModelError, SolverError

if TYPE_CHECKING:
    from headrace.plan import Plan

app = typer.Typer(help="Plans: what is decided for each row of a trajectory.", no_args_is_help=True)


@app.command(epilog="Example: headrace plan show dpm++2m --steps 20 --plot plan.png")
def show(
    solver_or_file: Annotated[
        str | None,
        typer.Argument(help="dpm++2m, euler, a diffusers scheduler class, ... or a .parquet plan; none: --model's own"),
    ] = None,
    steps: Annotated[int, typer.Option(help="inference steps, where a solver is named")] = 20,
    model: Annotated[
        str | None, typer.Option(help="embedded name or diffusers folder whose noise schedule is meant")
    ] = None,
    fusion: Annotated[str | None, typer.Option(help=HELP, metavar="POLICY")] = None,
    plot: Annotated[Path | None, typer.Option(help="draw timesteps, coefficients and decisions into this PNG")] = None,
    save: Annotated[Path | None, typer.Option(help="write the plan to this .parquet file")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on standard output")] = False,
) -> None:
    """Print a plan: one line per network evaluation, the columns that differ from plain sampling.

    --fusion is of the model's own factors K, or without --model of 1, 2 and 4.
    """
    plan = _find(solver_or_file, steps, model)
    if fusion is not None:
        plan = _fused(plan, fusion, model)
    if save is not None:
        plan.save(save)
    if plot is not None:
        from headrace.cli.plan_plot import draw

        draw(plan, plot)
    if as_json:
        typer.echo(json.dumps({**plan.metadata, "network_rows": plan.network_rows, "rows": _json_rows(plan)}))
        return
    _print(plan)
    for written in (save, plot):
        if written is not None:
            typer.echo(f"written: {written}")


def _find(solver_or_file: str | None, steps: int, model: str | None) -> Plan:
    from headrace.plan import Plan

    if solver_or_file is not None and (solver_or_file.endswith(".parquet") or Path(solver_or_file).is_file()):
        return Plan.load(solver_or_file)
    from headrace.models import solvers
    from headrace.plan.trace import trace

    base = None if model is None else _scheduler_config(model)
    if solver_or_file is None:
        if base is None:
            raise SolverError("no solver, file or model was named", "Write, for example, headrace plan show dpm++2m")
        solver_or_file = str(base["_class_name"])
    return trace(solvers.build(solver_or_file, base), steps)


def _fused(plan: Plan, text: str, model: str | None) -> Plan:
    from headrace.cli.model_files import fusion_factors
    from headrace.models.pipelines.folder import inspect
    from headrace.techniques.fusebatch.schedule import PAPER, fuse, parse

    factors = PAPER.factors if model is None else fusion_factors(inspect(model))
    return fuse(plan, parse(text, factors))


def _scheduler_config(model: str) -> dict[str, Any]:
    from headrace.models.pipelines.folder import inspect

    folder = inspect(model)
    file = folder.path / "scheduler" / "scheduler_config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorruptModelError(f"{file} cannot be read: {error}", "Restore the file") from None
    if not isinstance(config, dict):
        raise CorruptModelError(f"{file} is not a JSON object", "Restore the file")
    return {"_class_name": folder.parts.get("scheduler", ""), **config}


def _json_rows(plan: Plan) -> list[dict[str, Any]]:
    """Rows with null for "no bound", which JSON has no number for."""
    rows = plan.to_table()
    for row in rows:
        row["clip"] = [bound if math.isfinite(bound) else None for bound in row["clip"]]
    return rows


def _print(plan: Plan) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.measure import Measurement
    from rich.table import Table

    from headrace.plan import table

    headers, lines = table.cells(plan)
    grid = Table(box=None, pad_edge=False)
    for header in headers:
        grid.add_column(escape(header), justify="right", no_wrap=True)
    for line in lines:
        grid.add_row(*(escape(cell) for cell in line))
    console = Console()
    # Squeezed into the window, a table would lose digits; lines that wrap, or scroll in a pager, lose nothing.
    needed = Measurement.get(console, console.options.update(max_width=100_000), grid).maximum
    console.print(table.summary(plan), soft_wrap=True, markup=False, highlight=False)
    Console(width=max(console.width, needed)).print(grid)
