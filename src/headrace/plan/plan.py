"""`Plan`: one request's trajectory as a table, a row per network evaluation, a column per decision.

One row reads, with x the latents, out the network's output and xi standard-normal noise::

    out = network(input_scale * x, timestep)         (guided: out = u + guidance * (c - u))
    h   = clip(p * x + q * out)                      this row's register; h[-k] is that of k rows before
    x'  = a * x + sum_k b[k] * h[-k] + c * out + noise * xi

The row's data prediction is `x0 = data_p * x + data_q * out`, clipped as h is, and its latents are at the level
`x = signal * x0 + sigma * noise`.

`headrace.plan.reference.run` executes a plan and is the specification of these semantics.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import PlanError
from headrace.plan import table
from headrace.plan.column import COLUMNS, SOLVER, Column, column

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_UNSET: Any = None


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """A frozen, validated table of R rows; arrays are read-only. `headrace.plan.column.COLUMNS` describes each column.

    Solver columns come from `headrace.plan.trace`; decision columns left out mean plain sampling. `b` has shape [R, H],
    `clip` [R, 2], `compute` [R, B] with B the blocks of the network that a cache may skip (0 when nothing is cached).
    Scalars are broadcast to the rows. Raises `PlanError` naming the column, the row and the value that does not fit.
    """

    timestep: Floats
    a: Floats
    b: Floats
    input_scale: Floats = _UNSET
    p: Floats = _UNSET
    q: Floats = _UNSET
    c: Floats = _UNSET
    noise: Floats = _UNSET
    draws: Ints = _UNSET
    clip: Floats = _UNSET
    data_p: Floats = _UNSET
    data_q: Floats = _UNSET
    signal: Floats = _UNSET
    sigma: Floats = _UNSET
    guidance: Floats = _UNSET
    compute: Bools = _UNSET
    scale: Floats = _UNSET
    crossing: Ints = _UNSET
    fusion: Ints = _UNSET
    stage: Ints = _UNSET
    init_noise_sigma: float = 1.0  # standard deviation of the first x
    register: str = "raw output"  # what h holds: "data prediction", "noise prediction", "raw output"; "mixed" in parts
    solver: str = ""  # class name of the diffusers scheduler
    steps: int = 0  # what the scheduler was asked for; rows may be more
    config: str = "{}"  # the scheduler's configuration as canonical JSON
    arguments: str = (
        "{}"  # what it was traced with beside it (`set_timesteps`, `step`, `shift`); {} cannot be restarted
    )

    def __post_init__(self) -> None:
        rows = np.shape(self.timestep)
        if len(rows) != 1 or rows[0] == 0:
            raise PlanError(f"column timestep has shape {rows}, not one value a row", "A plan has at least one row")
        for spec in COLUMNS.values():
            object.__setattr__(self, spec.name, self._coerced(spec, rows[0]))
        self._check_rows()
        self._check_metadata()

    def _coerced(self, spec: Column, rows: int) -> np.ndarray:
        values: Any = getattr(self, spec.name)
        if spec.width == "one":
            return spec.array(spec.default if values is None else values, (rows,))
        if spec.width == "bounds":
            return spec.array((-np.inf, np.inf) if values is None else values, (rows, 2))
        if values is None:
            return spec.array(np.ones((rows, 0), dtype=spec.dtype), (rows, 0))
        return spec.array(values, (rows, spec.width_of(values)))

    def _check_rows(self) -> None:
        if self.b.shape[1] == 0:
            raise PlanError("column b has no registers", "b[0] multiplies the register of the row itself")
        for name, wrong in (
            ("clip", self.clip[:, 0] > self.clip[:, 1]),
            ("noise", (self.noise != 0) & (self.draws == 0)),
            ("compute", ~self.compute.all(axis=1) & (np.arange(len(self)) == 0)),
        ):
            if wrong.any():
                row = int(np.argmax(wrong))
                raise PlanError(
                    f"column {name}, row {row}: {getattr(self, name)[row].tolist()} {_RULES[name][0]}", _RULES[name][1]
                )

    def check_reuse(self) -> None:
        """Raises `PlanError` where a row reuses what was not computed for its guidance branches and its latent size.

        Columns are filled in any order, so this is asked when a plan is complete: the engine asks before any work.
        """
        if self.compute.all():
            return
        rows = np.arange(len(self))
        source = np.maximum.accumulate(np.where(self.compute, rows[:, None], 0), axis=0)
        guided = self.guidance != 1.0
        for name, wrong in (
            ("guidance", guided[:, None] & ~guided[source]),
            ("scale", self.scale[:, None] != self.scale[source]),
        ):
            row, block = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
            if wrong[row, block]:
                values = getattr(self, name)
                raise PlanError(
                    f"column compute, row {row}: block {block} reuses the value of row {source[row, block]}, where "
                    f"{name} was {values[source[row, block]]:g} and not {values[row]:g}",
                    f"Evaluate every block where {'guidance comes on' if name == 'guidance' else 'the scale changes'}",
                )

    def _check_metadata(self) -> None:
        if not np.isfinite(self.init_noise_sigma) or self.init_noise_sigma <= 0:
            raise PlanError(
                f"init_noise_sigma is {self.init_noise_sigma}", "It is the standard deviation of the first latents"
            )
        for name in ("register", "solver", "config", "arguments"):
            if not isinstance(getattr(self, name), str):
                raise PlanError(f"{name} is {getattr(self, name)!r}, not text")
        if not isinstance(self.steps, int) or self.steps < 0:
            raise PlanError(f"steps is {self.steps!r}, not a count")

    def __len__(self) -> int:
        """The number of rows: network evaluations, guidance not counted."""
        return int(self.timestep.shape[0])

    @property
    def history(self) -> int:
        """H, the registers an update reads, this row's included."""
        return int(self.b.shape[1])

    @property
    def blocks(self) -> int:
        """B, the blocks that `compute` decides on; 0 when every block is always evaluated."""
        return int(self.compute.shape[1])

    @cached_property
    def keep(self) -> Bools:
        """[R, B]: the computed values that the next row reuses, and that must therefore be kept."""
        keep = self.compute.copy()
        keep[:-1] &= ~self.compute[1:]
        keep[-1] = False
        return keep

    @cached_property
    def network_rows(self) -> int:
        """Network evaluations of the whole plan, a guided row counted twice."""
        return len(self) + int(np.count_nonzero(self.guidance != 1.0))

    def with_columns(self, **columns: object) -> Plan:
        """A plan whose decision columns hold these values, scalars broadcast. `PlanError` for any other column."""
        for name in columns:
            if column(name).owner == SOLVER:
                raise PlanError(f"column {name} belongs to the solver", "Trace another scheduler instead")
        return replace(self, **columns)  # type: ignore[arg-type]

    def differences(self, other: Plan) -> tuple[str, ...]:
        """Names of the columns and metadata in which two plans differ."""
        return tuple(f.name for f in fields(self) if not np.array_equal(getattr(self, f.name), getattr(other, f.name)))

    @property
    def metadata(self) -> dict[str, Any]:
        """Everything that is not a column, as JSON values."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in COLUMNS}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of columns and metadata: equal exactly for equal plans."""
        hasher = hashlib.sha256(json.dumps(self.metadata, sort_keys=True).encode())
        for name in COLUMNS:
            values: np.ndarray = getattr(self, name)
            hasher.update(f"{name}{values.shape}".encode())
            hasher.update(values.tobytes())
        return hasher.hexdigest()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        return self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return table.render(self)

    def to_table(self) -> list[dict[str, Any]]:
        """The rows as mappings from column name to Python values, in column order."""
        return table.rows(self)

    def save(self, path: str | Path) -> None:
        """Write one Parquet file, by rename. Raises `OutputError` where it cannot be written."""
        from headrace.plan.parquet import write

        write(self, Path(path))

    @staticmethod
    def load(path: str | Path) -> Plan:
        """Read a file that `save` wrote. Raises `PlanError` for one that is missing, corrupt or no plan."""
        from headrace.plan.parquet import read

        return read(Path(path))


_RULES = {
    "clip": ("has its bounds in the wrong order", "The lower bound comes first"),
    "noise": ("needs noise, but the row draws none", "Set draws to 1"),
    "compute": ("skips a block that has no cached value yet", "The first row evaluates every block"),
}
