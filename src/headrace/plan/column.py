"""The columns of a plan: what each is called, whose it is, and whether rows that share a call must agree on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from headrace.errors import PlanError

Kind = Literal["float", "int", "bool"]
Width = Literal["one", "history", "bounds", "blocks"]

_DTYPES: dict[str, type[np.generic]] = {"float": np.float64, "int": np.int64, "bool": np.bool_}


@dataclass(frozen=True)
class Column:
    """One column of a `Plan`.

    `width` says how many values a row holds: one, one per register of history, two bounds, or one per block of the
    network. `key` columns are part of the batch key: rows that differ in one cannot share a network call. Rows that
    differ in a `group_key` column can, but not one evaluation of K images (column `fusion`). `low` and `high` bound
    every value, inclusive; infinite values are refused except in `bounds` columns, where they mean none.
    """

    name: str
    kind: Kind
    owner: str
    doc: str
    width: Width = "one"
    key: bool = False
    group_key: bool = False
    default: float | int | bool | None = None
    low: float = float("-inf")
    high: float = float("inf")
    shown: bool = True

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The numpy type of the stored array."""
        return np.dtype(_DTYPES[self.kind])

    def array(self, values: object, shape: tuple[int, ...]) -> np.ndarray:
        """`values` broadcast to `shape`, checked and read-only. Raises `PlanError` with the column, row and value."""
        try:
            given: np.ndarray = np.asarray(values)
            filled = np.broadcast_to(given, shape)
        except ValueError:
            raise PlanError(
                f"column {self.name} has shape {_shape(values)}, which does not fit {shape}",
                "Give one value, or one a row",
            ) from None
        if given.dtype.kind not in "fiub" or (
            self.kind != "float" and given.dtype.kind == "f" and (given % 1 != 0).any()
        ):
            raise PlanError(f"column {self.name} holds {self.kind} values, not {_sample(given)}", self.doc)
        if self.kind == "bool" and given.dtype.kind != "b":
            raise PlanError(f"column {self.name} holds True or False, not {_sample(given)}", self.doc)
        self._check_range(filled)
        result: np.ndarray = np.array(filled, dtype=self.dtype, order="C")
        if self.kind == "float":
            result += 0.0  # -0.0 becomes 0.0, so that equal plans have equal digests
        result.setflags(write=False)
        return result

    def width_of(self, values: object) -> int:
        """How many values a row of `values` holds, for a column whose width varies. Raises `PlanError`."""
        shape = _shape(values)
        if len(shape) not in (1, 2):
            raise PlanError(f"column {self.name} has shape {shape}", f"Give a list of values a row: {self.doc}")
        return shape[-1]

    def _check_range(self, values: np.ndarray) -> None:
        if self.kind == "bool" or values.size == 0:
            return
        wrong = np.isnan(values) | (values < self.low) | (values > self.high)
        if self.width != "bounds":
            wrong = wrong | np.isinf(values)
        if wrong.any():
            where = tuple(int(i) for i in np.argwhere(wrong)[0])
            limits = f" in [{self.low:g}, {self.high:g}]" if np.isfinite([self.low, self.high]).any() else ""
            raise PlanError(
                f"column {self.name}, row {where[0]}: {values[where]} is not a finite number{limits}",
                f"{self.name}: {self.doc}",
            )


def _shape(values: Any) -> tuple[int, ...]:
    try:
        return np.shape(values)
    except ValueError:
        return (len(values),)  # rows of unequal length


def _sample(values: np.ndarray) -> str:
    text = repr(values.flat[0].item() if values.size else values.tolist())
    return f"{text} ({values.dtype})"


SOLVER = "solver"
_LARGEST_SEED = float(2**31)

COLUMNS: dict[str, Column] = {
    column.name: column
    for column in (
        Column("timestep", "float", SOLVER, "what the network is told: a training timestep, or c_noise for EDM"),
        Column("input_scale", "float", SOLVER, "the network sees input_scale * x", default=1.0),
        Column("p", "float", SOLVER, "weight of x in this row's register: h = p*x + q*out", default=0.0),
        Column("q", "float", SOLVER, "weight of the network's output in this row's register", default=1.0),
        Column("a", "float", SOLVER, "weight of x in the update"),
        Column(
            "b",
            "float",
            SOLVER,
            "weights of the registers: b[0] of this row's, b[1] of the row before, ...",
            width="history",
        ),
        Column(
            "c", "float", SOLVER, "weight of the raw output beside the register, where a solver keeps both", default=0.0
        ),
        Column("noise", "float", SOLVER, "weight of the last standard-normal tensor drawn in this row", default=0.0),
        Column("draws", "int", SOLVER, "standard-normal tensors drawn in this row", default=0, low=0, high=16),
        Column("clip", "float", SOLVER, "bounds of the register, infinite for none", width="bounds"),
        Column(
            "data_p",
            "float",
            SOLVER,
            "weight of x in this row's data prediction: x0 = data_p*x + data_q*out",
            default=0.0,
            shown=False,
        ),
        Column(
            "data_q",
            "float",
            SOLVER,
            "weight of the network's output in this row's data prediction; 0 where it is not known",
            default=0.0,
            shown=False,
        ),
        Column(
            "signal",
            "float",
            SOLVER,
            "weight of the data in this row's latents: x = signal*x0 + sigma*noise",
            default=0.0,
            low=0,
            shown=False,
        ),
        Column(
            "sigma",
            "float",
            SOLVER,
            "weight of the noise in this row's latents; signal and sigma are 0 where the level is not known",
            default=0.0,
            low=0,
            shown=False,
        ),
        Column(
            "guidance",
            "float",
            "guidance",
            "classifier-free guidance scale; 1 = conditional only",
            default=1.0,
            low=0,
            high=1e4,
        ),
        Column(
            "compute",
            "bool",
            "block cache",
            "which blocks are evaluated; the others reuse",
            width="blocks",
            default=True,
        ),
        Column(
            "scale",
            "float",
            "mixed resolution",
            "latent size over final size",
            key=True,
            default=1.0,
            low=1 / 64,
            high=64,
        ),
        Column(
            "crossing",
            "int",
            "mixed resolution",
            "how latents come to this row where its scale is another (`headrace.plan.crossing.Crossing`)",
            default=0,
            low=0,
            high=3,
            shown=False,
        ),
        Column(
            "fusion", "int", "fusebatch", "images that share one evaluation (K)", key=True, default=1, low=1, high=1024
        ),
        Column(
            "stage",
            "int",
            "multistage",
            "which decoder evaluates this row",
            group_key=True,
            default=0,
            low=0,
            high=_LARGEST_SEED,
        ),
    )
}


def column(name: str) -> Column:
    """The column with this name. Raises `PlanError` for an unknown one."""
    if name not in COLUMNS:
        raise PlanError(f"a plan has no column {name!r}", f"Columns: {', '.join(COLUMNS)}")
    return COLUMNS[name]


def key_columns() -> tuple[str, ...]:
    """Names of the columns on which rows must agree to share a network call."""
    return tuple(c.name for c in COLUMNS.values() if c.key)


def group_key_columns() -> tuple[str, ...]:
    """Names of the columns on which rows must agree, besides, to share one evaluation."""
    return tuple(c.name for c in COLUMNS.values() if c.group_key)
