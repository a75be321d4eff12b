"""A plan as rows of values and as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.plan.column import COLUMNS, Column

if TYPE_CHECKING:
    from headrace.plan.plan import Plan

_SHOWN_ROWS = 12


def rows(plan: Plan) -> list[dict[str, Any]]:
    """One mapping a row, from column name to Python values (lists where a row holds several)."""
    values = {name: getattr(plan, name).tolist() for name in COLUMNS}
    return [{name: column[row] for name, column in values.items()} for row in range(len(plan))]


def informative_columns(plan: Plan) -> list[str]:
    """Shown columns that differ from their default somewhere, `timestep`, `a` and `b` always."""
    return [
        name
        for name, spec in COLUMNS.items()
        if spec.shown and (spec.default is None or _differs(spec, getattr(plan, name)))
    ]


def _differs(spec: Column, values: np.ndarray) -> bool:
    return bool(np.any(values != spec.default))


def summary(plan: Plan) -> str:
    """One line: solver, steps, rows, register, history, network evaluations."""
    return (
        f"{plan.solver or 'hand-made'} {plan.steps} steps, {len(plan)} rows, history {plan.history}, "
        f"register {plan.register}, starts at sigma {plan.init_noise_sigma:.5g}, {plan.network_rows} network rows"
    )


def cells(plan: Plan) -> tuple[list[str], list[list[str]]]:
    """Headers and formatted cells of the informative columns; `clip` is left out where nothing is clipped."""
    names = [n for n in informative_columns(plan) if n != "clip" or np.isfinite(plan.clip).any()]
    headers = ["row"]
    columns: list[list[str]] = [[str(row) for row in range(len(plan))]]
    for name in names:
        values: np.ndarray = getattr(plan, name)
        if name == "compute":
            headers.append(name)
            columns.append(["".join("#" if on else "." for on in row) for row in values])
        elif values.ndim == 2:
            headers += [f"{name}[{k}]" for k in range(values.shape[1])]
            columns += [[_number(v) for v in values[:, k]] for k in range(values.shape[1])]
        else:
            headers.append(name)
            columns.append([_number(v) for v in values])
    return headers, [list(row) for row in zip(*columns, strict=True)]


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def render(plan: Plan) -> str:
    """Compact text: the summary, then at most 12 rows (the first and the last) of the informative columns."""
    headers, lines = cells(plan)
    if len(lines) > _SHOWN_ROWS:
        half = _SHOWN_ROWS // 2
        lines = [*lines[:half], ["..."] + [""] * (len(headers) - 1), *lines[-half:]]
    widths = [max(len(line[i]) for line in [headers, *lines]) for i in range(len(headers))]
    text = [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in [headers, *lines]
    ]
    return "\n".join([f"Plan: {summary(plan)}", *text])
