"""Draws a plan: timesteps, register, update and decisions, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from headrace.files import write_file
from headrace.plan import COLUMNS, Plan
from headrace.plan.table import summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DECISIONS = ("guidance", "scale", "fusion", "stage")


def draw(plan: Plan, path: Path) -> None:
    """Write a PNG of `plan` to `path`, by rename. Raises `OutputError` where it cannot be written."""
    panels = [_timesteps, _register, _update, _decisions] + ([_compute] if plan.blocks else [])
    figure = Figure(figsize=(9, 2.3 * len(panels) + 0.6), layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(panels), 1, sharex=True))
    figure.suptitle(summary(plan), fontsize=10)
    for panel, axis in zip(panels, axes, strict=True):
        panel(plan, axis)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(True, alpha=0.25)
    axes[-1].set_xlabel("row (network evaluation)")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    write_file(path, lambda temporary: figure.savefig(temporary, format="png", dpi=130))


def _timesteps(plan: Plan, axis: Axes) -> None:
    axis.plot(plan.timestep, "o-", markersize=3, color="C0")
    axis.set_ylabel("timestep")
    if (plan.input_scale != 1).any():
        other = axis.twinx()
        other.plot(plan.input_scale, "s-", markersize=2.5, color="C1")
        other.set_ylabel("input scale", color="C1")


def _register(plan: Plan, axis: Axes) -> None:
    axis.plot(plan.p, "o-", markersize=3, label="p (of x)")
    axis.plot(plan.q, "o-", markersize=3, label="q (of the output)")
    _symmetric_log(axis, plan.p, plan.q)
    axis.set_ylabel(f"register:\n{plan.register}")
    axis.legend(fontsize=8, loc="upper right", ncols=2, framealpha=0.6)
    if np.isfinite(plan.clip).any():
        low, high = np.ptp(plan.clip, axis=0) == 0
        bounds = f"[{plan.clip[0, 0]:g}, {plan.clip[0, 1]:g}]" if low and high else "varying bounds"
        axis.set_title(f"clipped to {bounds}", fontsize=8, loc="right")


def _update(plan: Plan, axis: Axes) -> None:
    axis.plot(plan.a, "o-", markersize=3, label="a (x)")
    for age in range(plan.history):
        if plan.b[:, age].any():
            axis.plot(plan.b[:, age], "o-", markersize=3, label=f"b[{age}]")
    if plan.c.any():
        axis.plot(plan.c, "o-", markersize=3, label="c (raw output)")
    if plan.noise.any():
        axis.plot(plan.noise, "x--", markersize=4, label="noise")
    _symmetric_log(axis, plan.a, plan.b, plan.c, plan.noise)
    axis.set_ylabel("update")
    axis.legend(fontsize=8, ncols=3, loc="best", framealpha=0.6)


def _decisions(plan: Plan, axis: Axes) -> None:
    changed = [name for name in _DECISIONS if (getattr(plan, name) != COLUMNS[name].default).any()]
    rows = np.arange(len(plan))
    for name in changed or ["guidance"]:
        axis.step(rows, getattr(plan, name), where="mid", label=name)
    axis.set_ylim(0, 1.15 * max(getattr(plan, name).max() for name in changed or ["guidance"]))
    axis.set_ylabel("decisions")
    axis.set_title(
        f"{plan.network_rows} network rows" + ("" if changed else ", plain sampling"), fontsize=8, loc="right"
    )
    axis.legend(fontsize=8, framealpha=0.6)


def _compute(plan: Plan, axis: Axes) -> None:
    axis.imshow(plan.compute.T, aspect="auto", cmap="Blues", vmin=0, vmax=1.5, interpolation="nearest", origin="lower")
    axis.set_ylabel("block")
    axis.set_title(f"dark = evaluated ({plan.compute.mean():.0%})", fontsize=8, loc="right")
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))


def _symmetric_log(axis: Axes, *columns: np.ndarray) -> None:
    """A scale that shows large and small values of both signs, where linear would flatten the small ones."""
    if max(np.abs(column).max() for column in columns) > 20:
        axis.set_yscale("symlog", linthresh=1.0)
