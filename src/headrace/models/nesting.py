"""Cached blocks inside other cached blocks: what their decisions mean together.

An inner block is *reached* in the rows in which every block around it is evaluated. Where it is not reached it neither
evaluates nor reuses, whatever its column of `compute` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.errors import ModelError, PlanError
from headrace.models.branches import modules_of
from headrace.plan import Plan

Bools = npt.NDArray[np.bool_]


def nesting(network: Any, blocks: Sequence[str]) -> Bools:
    """[B, B] True at [b, a] where block b lies inside block a.

    Raises `ModelError` where two blocks share modules and neither lies inside the other.
    """
    parts = [modules_of(network, path) for path in blocks]
    inside = np.zeros((len(blocks), len(blocks)), np.bool_)
    for inner, outer in np.ndindex(inside.shape):
        if inner == outer:
            continue
        shared = [_within(path, parts[outer]) for path in parts[inner]]
        # A block and a branch of nothing but this block: the block is the inner one.
        inside[inner, outer] = all(shared) and (parts[inner] != parts[outer] or blocks[outer].startswith("branch"))
        if any(shared) and not all(shared) and not all(_within(path, parts[inner]) for path in parts[outer]):
            raise ModelError(
                f"{blocks[inner]!r} and {blocks[outer]!r} overlap, and neither lies inside the other",
                "Cache one of them, or branches of which one is part of the other",
            )
    return inside


def _within(path: str, modules: Sequence[str]) -> bool:
    return any(path == module or path.startswith(f"{module}.") for module in modules)


def consistent(compute: npt.ArrayLike, inside: Bools) -> Bools:
    """Decisions [R, B] of several techniques that can be carried out together; blocks in no other stay as they are.

    Where an inner block is not reached, an evaluation that was wanted moves to the next row that reaches it: it was
    wanted because the value had grown old. Rows that do not reach a block hold the decision of the next one that does
    (True where none does): so the last evaluation before a reuse is followed by False, which is what keeps its value,
    and what nobody reuses is not kept.
    """
    joined: Bools = np.array(compute, dtype=np.bool_)
    for block in np.argsort(inside.sum(axis=1), kind="stable").tolist():  # from the outside in
        rows = np.flatnonzero(_reached(joined, inside, block))
        # Rows up to and including a reached one are decided together.
        group = np.searchsorted(rows, np.arange(len(joined)))
        decisions = np.zeros(len(rows) + 1, np.bool_)
        np.logical_or.at(decisions, group, joined[:, block])
        decisions[len(rows) :] = True
        joined[:, block] = decisions[group]
    return joined


def skipped(compute: Bools, inside: Bools) -> Bools:
    """[R, B] True where a block reuses and no block around it does: what is saved is the work of just these."""
    return np.stack([~compute[:, b] & _reached(compute, inside, b) for b in range(compute.shape[1])], axis=1)


def check(plan: Plan, blocks: Sequence[str], inside: Bools, sources: Sequence[str]) -> None:
    """Raises `PlanError` where a block would reuse a value that its source did not give.

    That is where the row that was to compute it did not reach the block, or, for the value of the unconditional branch,
    had no guidance.
    """
    if plan.compute.all():
        return
    rows = np.arange(len(plan))
    source = np.maximum.accumulate(np.where(plan.compute, rows[:, None], 0), axis=0)
    for block, path in enumerate(blocks):
        reached = _reached(plan.compute, inside, block)
        reuses = reached & ~plan.compute[:, block]
        _refuse(
            reuses & ~reached[source[:, block]],
            f"reuses a value of {path!r} that was not computed, as a block around it was not evaluated",
            "Pass the joined decisions through headrace.models.nesting.consistent",
        )
        if sources[block] == "unconditional":
            _refuse(
                reuses & (plan.guidance == 1)[source[:, block]],
                f"reuses the unconditional branch's value of {path!r} from a row without guidance",
                "Reuse the conditional branch's value, or evaluate the block in a guided row before",
            )


def _refuse(wrong: Bools, problem: str, remedy: str) -> None:
    if wrong.any():
        raise PlanError(f"column compute, row {int(np.argmax(wrong))}: the row {problem}", remedy)


def _reached(compute: Bools, inside: Bools, block: int) -> Bools:
    """[R] the rows in which every block around this one is evaluated."""
    return np.asarray(compute[:, inside[block]].all(axis=1))
