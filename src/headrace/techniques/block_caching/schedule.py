"""Which blocks each row evaluates, and which it takes from the cache (Wimbauer et al. 2024, section 3.3)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headrace.errors import CalibrationError, HeadraceWarning, PlanError
from headrace.plan import Plan

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_EXACT = 1e-9  # what sums of shares may be off by
_HALVINGS = 60  # of the interval in which the threshold is searched: below the resolution of a float64


@dataclass(frozen=True, eq=False)
class Schedule:
    """For N rows of a trajectory and B blocks, which blocks each row evaluates.

    Attributes:
        blocks: [B] module paths in the network.
        timesteps: [N] what the network was told in each row.
        compute: [N, B] True where the block is evaluated, False where the last value is reused. Row 0 is all True.

    Raises `CalibrationError` where the shapes do not fit, a block is named twice, or row 0 reuses.
    """

    blocks: tuple[str, ...]
    timesteps: Floats
    compute: Bools

    def __post_init__(self) -> None:
        timesteps: Floats = np.array(self.timesteps, dtype=np.float64)
        compute: Bools = np.array(self.compute, dtype=np.bool_)
        if timesteps.ndim != 1 or len(timesteps) < 2 or compute.shape != (len(timesteps), len(self.blocks)):
            raise CalibrationError(
                f"a schedule of {len(self.blocks)} blocks has timesteps {timesteps.shape} and compute {compute.shape}",
                "Give one row a timestep, at least two, and one column a block",
            )
        if not self.blocks or len(set(self.blocks)) != len(self.blocks):
            raise CalibrationError(f"the blocks are {list(self.blocks)}", "Name at least one block, and each once")
        if not np.isfinite(timesteps).all() or not compute[0].all():
            raise CalibrationError(
                "a schedule's first row reuses, or a timestep is not finite", "The first row evaluates every block"
            )
        for name, values in (("timesteps", timesteps), ("compute", compute)):
            values.setflags(write=False)
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.timesteps)

    @classmethod
    def of_letters(cls, blocks: Sequence[str], timesteps: ArrayLike, letters: Sequence[str]) -> Schedule:
        """From a text a row, a letter a block, as files hold it: # evaluated, . reused."""
        compute = np.array([[letter == "#" for letter in line] for line in letters])
        return cls(tuple(blocks), np.asarray(timesteps, dtype=np.float64), compute)

    @property
    def letters(self) -> tuple[str, ...]:
        """What `of_letters` reads."""
        return tuple("".join("#" if computes else "." for computes in row) for row in self.compute.tolist())


def from_change(blocks: Sequence[str], timesteps: ArrayLike, change: ArrayLike, delta: float) -> Schedule:
    """Equation 7: a value is kept as long as the change since it was computed, added up, does not exceed `delta`.

    `change` is [N-1, B], change[r] the relative L1 change (equation 6) from row r to row r + 1. A value computed in row
    a is computed anew in the first row b with change[a] + ... + change[b-1] > delta. `delta` = 0 evaluates everything.
    Raises `CalibrationError`.
    """
    steps = _checked_change(blocks, timesteps, change)
    check_delta(delta)
    compute: Bools = np.ones((len(steps) + 1, len(blocks)), dtype=np.bool_)
    accumulated: Floats = np.zeros(len(blocks))
    for row, change_to_row in enumerate(steps, start=1):
        accumulated += change_to_row
        compute[row] = (accumulated > delta) | (delta == 0)
        accumulated[compute[row]] = 0.0
    return Schedule(tuple(blocks), np.asarray(timesteps, dtype=np.float64), compute)


def saving(schedule: Schedule, cost: ArrayLike) -> float:
    """Share of the network's operations that a schedule leaves out; `cost` is [B], each block's share in one row."""
    return float((~schedule.compute).mean(axis=0) @ _checked_cost(schedule.blocks, cost))


def most_saving(blocks: Sequence[str], rows: int, cost: ArrayLike) -> float:
    """Share of the network's operations that is left out where every block is evaluated in the first row only."""
    return float(_checked_cost(blocks, cost).sum()) * (rows - 1) / rows


def for_saving(
    blocks: Sequence[str], timesteps: ArrayLike, change: ArrayLike, cost: ArrayLike, target: float
) -> tuple[Schedule, float]:
    """The schedule of the smallest threshold that saves at least `target`, and that threshold, by bisection.

    `target` is a share of the network's operations in [0, 1), `cost` as in `saving`. A greater threshold never saves
    less. Raises `CalibrationError`, also where even one evaluation a block would not save so much: it says what would.
    """
    steps = _checked_change(blocks, timesteps, change)
    check_target(target, most_saving(blocks, len(steps) + 1, cost))
    low, high = 0.0, 1.001 * float(steps.sum(axis=0).max()) + _EXACT  # above it, no block is evaluated again
    nothing = from_change(blocks, timesteps, steps, low)
    if saving(nothing, cost) >= target - _EXACT:
        return nothing, low
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if saving(from_change(blocks, timesteps, steps, middle), cost) >= target - _EXACT:
            high = middle
        else:
            low = middle
    return from_change(blocks, timesteps, steps, high), high


def together(blocks: Sequence[str], timesteps: ArrayLike, displacement: ArrayLike, evaluations: int) -> Schedule:
    """All blocks evaluated in the same `evaluations` rows: those that displace the latents least, squares added up.

    `displacement` is [N-1, K], entry [r-1, k-1] what it costs to reuse values of row r - k in row r; no value is reused
    for more than K rows. The rows are the shortest path through the trajectory, so no other choice of as many rows is
    better by this measure. Raises `CalibrationError`, also where so few evaluations do not reach.
    """
    squares = _checked_displacement(timesteps, displacement) ** 2
    rows, reach = len(squares) + 1, squares.shape[1]
    if not -(-rows // (reach + 1)) <= evaluations <= rows:
        raise CalibrationError(
            f"{evaluations} evaluations of {rows} rows are not possible where a value is reused for at most {reach}",
            f"Evaluate in at least {-(-rows // (reach + 1))} rows",
        )
    # costs[a, n]: row a is evaluated and the n rows behind it reuse.
    costs = np.full((rows, reach + 1), np.inf)
    for first in range(rows):
        behind = [squares[first + k - 1, k - 1] for k in range(1, min(reach, rows - 1 - first) + 1)]
        costs[first, : len(behind) + 1] = np.cumsum([0.0, *behind])
    compute: Bools = np.zeros((rows, len(blocks)), dtype=np.bool_)
    compute[_shortest_path(costs, evaluations)] = True
    return Schedule(tuple(blocks), np.asarray(timesteps, dtype=np.float64), compute)


def _shortest_path(costs: Floats, count: int) -> list[int]:
    """Starts of `count` segments that cover all rows; `costs` [R, K+1] of a segment by its start and its length - 1."""
    rows, longest = costs.shape
    best: Floats = np.full((count + 1, rows + 1), np.inf)
    best[0, 0] = 0.0
    start = np.zeros((count + 1, rows + 1), dtype=np.int64)
    for used in range(1, count + 1):
        for end in range(1, rows + 1):
            begins = np.arange(max(0, end - longest), end)
            totals = best[used - 1, begins] + costs[begins, end - begins - 1]
            start[used, end] = begins[np.argmin(totals)]
            best[used, end] = totals.min()
    starts = [rows]
    for used in range(count, 0, -1):
        starts.append(int(start[used, starts[-1]]))
    return starts[1:]


def together_for_saving(
    blocks: Sequence[str], timesteps: ArrayLike, displacement: ArrayLike, cost: ArrayLike, target: float
) -> tuple[Schedule, float]:
    """`together` with as many evaluations as leave out at least `target` of the network's operations.

    Also returns the root of the summed squares of the displacements. Raises as `for_saving` and `together` do.
    """
    rows = len(np.atleast_1d(timesteps))
    share = float(_checked_cost(blocks, cost).sum())
    check_target(target, most_saving(blocks, rows, cost))
    evaluations = math.floor(rows * (1 - target / share) + _EXACT) if share > 0 else rows
    schedule = together(blocks, timesteps, displacement, evaluations)
    computes = schedule.compute[:, 0]
    age = np.arange(rows) - np.maximum.accumulate(np.where(computes, np.arange(rows), 0))
    squares = [np.asarray(displacement)[row - 1, age[row] - 1] ** 2 for row in np.flatnonzero(~computes)]
    return schedule, math.sqrt(math.fsum(squares))


def check_delta(delta: float) -> None:
    """Raises `CalibrationError` where `delta` is no threshold."""
    if not math.isfinite(delta) or delta < 0:
        raise CalibrationError(f"delta is {delta}", "It is the change that a reused value may reach: 0 or more")


def check_target(target: float, most: float = 1.0) -> None:
    """Raises `CalibrationError` where `target` is no share of the operations, or more than `most`."""
    if not 0 <= target < 1:  # NaN as well
        raise CalibrationError(f"a saving of {target} is not accepted", "It is a share of the network's MACs, 0 to 1")
    if target > most + _EXACT:
        raise CalibrationError(
            f"a saving of {target:.3f} cannot be reached: these blocks evaluated in the first row only save {most:.3f}",
            f"Ask for at most {math.floor(most * 1000 + _EXACT) / 1000:.3f}, or for more steps",
        )


def apply(plan: Plan, schedule: Schedule) -> Plan:
    """The plan with `compute` filled from a schedule.

    A plan of another number of rows takes the schedule by normalised time, row r of R standing at r / (R - 1): it
    evaluates a block where the schedule evaluates it after the row before and not after this one. That warns with a
    `HeadraceWarning`. A row whose guidance comes on again, or whose latents have another size than the row before,
    evaluates everything. Raises `PlanError` where rows agree in number but not in timesteps.
    """
    if len(plan) == len(schedule):
        _check_timesteps(plan, schedule)
        compute = schedule.compute.copy()
    else:
        compute = _stretched(schedule.compute, len(plan))
        warnings.warn(
            f"the cache schedule was made for {len(schedule)} rows and is stretched to {len(plan)}, where "
            f"{compute.mean():.0%} of its blocks are evaluated, not {schedule.compute.mean():.0%}: "
            "calibrate with these steps for one that fits",
            HeadraceWarning,
            stacklevel=2,
        )
    guided = plan.guidance != 1
    compute[1:][guided[1:] & ~guided[:-1]] = True
    compute[1:][plan.scale[1:] != plan.scale[:-1]] = True
    return plan.with_columns(compute=compute)


def _stretched(compute: Bools, rows: int) -> Bools:
    """[rows, B] from [N, B]: each evaluation moves to the first row that is not earlier in normalised time."""
    old = np.arange(len(compute))
    new = -(-old * (rows - 1) // (len(compute) - 1))  # n (R-1) / (N-1), rounded up in whole numbers
    stretched: Bools = np.zeros((rows, compute.shape[1]), dtype=np.bool_)
    np.logical_or.at(stretched, new, compute)
    return stretched


def _check_timesteps(plan: Plan, schedule: Schedule) -> None:
    if not np.allclose(plan.timestep, schedule.timesteps, rtol=1e-4, atol=1e-3):
        row = int(np.argmax(np.abs(plan.timestep - schedule.timesteps)))
        raise PlanError(
            f"row {row} of the plan is at timestep {plan.timestep[row]:g}, and at {schedule.timesteps[row]:g} in the "
            "cache schedule",
            "Use the solver that the schedule was calibrated for",
        )


def _checked_change(blocks: Sequence[str], timesteps: ArrayLike, change: ArrayLike) -> Floats:
    steps: Floats = np.asarray(change, dtype=np.float64)
    expected = (len(np.atleast_1d(timesteps)) - 1, len(blocks))
    if steps.shape != expected or expected[0] < 1:
        raise CalibrationError(
            f"the change has shape {steps.shape}, not {expected}", "Give [rows - 1, blocks], rows > 1"
        )
    if not np.isfinite(steps).all() or (steps < 0).any():
        raise CalibrationError("the change of a block is negative or not finite", "Measure it again, in float32")
    return steps


def _checked_displacement(timesteps: ArrayLike, displacement: ArrayLike) -> Floats:
    values: Floats = np.asarray(displacement, dtype=np.float64)
    rows = len(np.atleast_1d(timesteps))
    if values.ndim != 2 or len(values) != rows - 1 or not 1 <= values.shape[1] < rows:
        raise CalibrationError(
            f"the displacement has shape {values.shape} for {rows} rows", "Give [rows - 1, rows of reuse], rows > 1"
        )
    if not np.isfinite(values).all() or (values < 0).any():
        raise CalibrationError("a displacement is negative or not finite", "Measure it again, in float32")
    return values


def _checked_cost(blocks: Sequence[str], cost: ArrayLike) -> Floats:
    shares: Floats = np.asarray(cost, dtype=np.float64)
    if shares.shape != (len(blocks),) or not (shares >= 0).all() or not shares.sum() <= 1 + _EXACT:
        raise CalibrationError(f"the costs {shares.tolist()} are no shares of a network", "Give one a block, 1 in all")
    return shares
