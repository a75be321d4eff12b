"""Plans as Parquet files: a column each, metadata in the schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.errors import PlanError
from headrace.files import write_file
from headrace.plan.column import COLUMNS

if TYPE_CHECKING:
    from headrace.plan.plan import Plan

_KEY = b"headrace.plan"
_VERSION = 2  # 2: data prediction and level of each row, and what the solver was traced with


def write(plan: Plan, path: Path) -> None:
    """Write `plan` to `path`, which appears whole or not at all. Raises `OutputError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {name: _to_arrow(getattr(plan, name)) for name in COLUMNS}
    widths = {name: getattr(plan, name).shape[1] for name in COLUMNS if getattr(plan, name).ndim == 2}
    header = json.dumps({"version": _VERSION, "widths": widths, "digest": plan.digest, **plan.metadata})
    table = pa.table(arrays).replace_schema_metadata({_KEY: header})
    write_file(path, lambda temporary: pq.write_table(table, temporary))


def _to_arrow(values: np.ndarray) -> Any:
    import pyarrow as pa

    if values.ndim == 1:
        return pa.array(values)
    return pa.array(values.tolist(), type=pa.list_(pa.from_numpy_dtype(values.dtype)))


def read(path: Path) -> Plan:
    """Read a plan back, bit for bit. Raises `PlanError` for a file that is missing, damaged or no plan."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from headrace.plan.plan import Plan

    remedy = "Write it again with Plan.save or `headrace plan show SOLVER --save FILE`"
    if not path.is_file():
        raise PlanError(f"there is no plan file {path}", remedy)
    try:
        table = pq.read_table(path)
        header = json.loads((table.schema.metadata or {})[_KEY])
        if header.pop("version") != _VERSION:
            raise PlanError(f"{path} is a plan of another version of Headrace", remedy)
        digest, widths = header.pop("digest"), header.pop("widths")
        columns: dict[str, Any] = {name: _to_numpy(table[name], name, widths) for name in COLUMNS}
        plan = Plan(**columns, **header)
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise PlanError(f"{path} is not a plan: {type(error).__name__} {error}", remedy) from None
    if plan.digest != digest:
        raise PlanError(f"{path} was changed after it was written", remedy)
    return plan


def _to_numpy(column: Any, name: str, widths: dict[str, int]) -> np.ndarray:
    if name not in widths:
        result: np.ndarray = column.to_numpy()
        return result
    values = np.array(column.to_pylist(), dtype=COLUMNS[name].dtype)
    return values.reshape(len(column), widths[name])
