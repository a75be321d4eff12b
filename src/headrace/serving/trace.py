"""Traces: when requests arrive and what each of them asks for, and the files that hold them."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import TraceError
from headrace.files import write_file
from headrace.serving.state import Size

if TYPE_CHECKING:
    import pyarrow as pa

MAX_SIDE, MAX_STEPS = 8192, 1000
_MAX_PRIORITY = 10**6
_NEEDED = ("time", "height", "width", "steps")
_OPTIONAL: dict[str, Any] = {"guided": True, "priority": 0, "deadline": math.inf}
_TYPES: dict[str, Any] = {
    "time": np.float64, "height": np.int64, "width": np.int64, "steps": np.int64, "guided": np.bool_,
    "priority": np.int64, "deadline": np.float64,
}  # fmt: skip
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True, eq=False)
class Trace:
    """Requests in order of arrival, a column a property, all of shape [N].

    Attributes:
        time: of arrival, seconds, never decreasing, at least 0.
        height, width: of the picture, pixels.
        steps: denoising rows.
        guided: whether its rows evaluate both guidance branches.
        priority: larger goes first.
        deadline: when it should be done, on the clock of `time`; infinite where it has none.
    """

    time: NDArray[np.float64]
    height: NDArray[np.int64]
    width: NDArray[np.int64]
    steps: NDArray[np.int64]
    guided: NDArray[np.bool_]
    priority: NDArray[np.int64]
    deadline: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.time)

    @property
    def sizes(self) -> list[Size]:
        """The different sizes, by area."""
        pairs = set(zip(self.height.tolist(), self.width.tolist(), strict=True))
        return sorted(pairs, key=lambda size: (size[0] * size[1], size))

    def first(self, count: int) -> Trace:
        """Its first `count` requests."""
        return Trace(**{field.name: getattr(self, field.name)[:count] for field in fields(self)})

    def save(self, path: Path) -> None:
        """Write a CSV file, or a parquet file where the name ends so. Raises `OutputError`."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        if path.suffix == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            write_file(path, lambda temporary: pq.write_table(pa.table(columns), temporary))
        else:
            write_file(path, lambda temporary: _write_csv(temporary, columns))


def load_trace(path: Path) -> Trace:
    """The trace of a CSV file with a header, or of a parquet file.

    Columns: time, height, width, steps; and where they are there guided (true), priority (0) and deadline (none).
    Others are left alone. Raises `TraceError` with the line (of parquet, the row).
    """
    table = _read(path)
    missing = [name for name in _NEEDED if name not in table.column_names]
    if missing:
        raise TraceError(
            f"{str(path)!r} has no column {', '.join(missing)}, only {', '.join(table.column_names) or 'none'}",
            f"A trace has {', '.join(_NEEDED)}, and may have {', '.join(_OPTIONAL)}",
        )
    if table.num_rows == 0:
        raise TraceError(f"{str(path)!r} holds no requests", "Give a line to each arrival")
    place = _Place(path)
    columns = {
        name: _column(table, name, place) if name in table.column_names else _default(name, table.num_rows)
        for name in (*_NEEDED, *_OPTIONAL)
    }
    trace = Trace(**columns)
    _check(trace, place)
    return trace


@dataclass(frozen=True)
class _Place:
    path: Path

    def __call__(self, row: int) -> str:
        """Where the reader of an error finds row `row`, counted from 0."""
        name = str(self.path)
        return f"{name!r}, row {row + 1}" if self.path.suffix == ".parquet" else f"{name!r}, line {row + 2}"


def _read(path: Path) -> pa.Table:
    """Every column of a CSV file as text, those of a parquet file as they are."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".parquet":
            return pq.read_table(path)
        with path.open(newline="", encoding="utf-8") as file:
            names = next(csv.reader(file), [])
        text = pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
        )
        # A blank line is an error with its number, not something that shifts the numbers of the lines after it.
        parse = pa.csv.ParseOptions(ignore_empty_lines=False)
        return pa.csv.read_csv(path, pa.csv.ReadOptions(use_threads=False), parse, text)
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise TraceError(f"{str(path)!r} cannot be read: {reason}", "Give a CSV or parquet file of arrivals") from None


def _column(table: pa.Table, name: str, place: _Place) -> NDArray[Any]:
    import pyarrow as pa

    column = table.column(name)
    if name in _OPTIONAL and column.null_count:
        values = [_OPTIONAL[name] if value is None else value for value in column.to_pylist()]
    elif pa.types.is_string(column.type) or column.null_count:
        values = column.to_pylist()
    else:
        values = column.to_numpy()
    convert = _CONVERT[_TYPES[name]]
    try:
        if isinstance(values, np.ndarray) and values.dtype == _TYPES[name]:
            return values
        return np.fromiter(map(convert, values), dtype=_TYPES[name], count=len(values))
    except (ValueError, TypeError, OverflowError):
        row = next(row for row, value in enumerate(values) if not _converts(convert, value))
        wanted = {np.float64: "a number", np.int64: "a whole number", np.bool_: "true or false"}[_TYPES[name]]
        found = "is empty" if values[row] is None else f"is {str(values[row])!r}"
        raise TraceError(f"{place(row)}: {name} {found}", f"Write {wanted}") from None


def _boolean(value: object) -> bool:
    found = _BOOLEANS.get(str(value).strip().lower())
    if found is None:
        raise ValueError(value)
    return found


def _whole(value: Any) -> int:
    number = int(value)
    if not isinstance(value, str) and number != value:
        raise ValueError(value)
    return number


_CONVERT: dict[Any, Callable[[Any], Any]] = {np.float64: float, np.int64: _whole, np.bool_: _boolean}


def _converts(convert: Callable[[Any], Any], value: object) -> bool:
    try:
        return abs(convert(value)) < 2**63 or convert is float
    except (ValueError, TypeError, OverflowError):
        return False


def _default(name: str, count: int) -> NDArray[Any]:
    return np.full(count, _OPTIONAL[name], dtype=_TYPES[name])


def _check(trace: Trace, place: _Place) -> None:
    """Raises `TraceError` for the first value that cannot be."""
    limits: list[tuple[str, NDArray[np.bool_], str]] = [
        ("time", np.isfinite(trace.time) & (trace.time >= 0), "seconds of 0 or more"),
        *((side, _within(getattr(trace, side), 8, MAX_SIDE), f"8 to {MAX_SIDE} pixels") for side in _NEEDED[1:3]),
        ("steps", _within(trace.steps, 1, MAX_STEPS), f"1 to {MAX_STEPS} steps"),
        ("priority", _within(trace.priority, -_MAX_PRIORITY, _MAX_PRIORITY), f"at most {_MAX_PRIORITY} either way"),
        ("deadline", trace.deadline > trace.time, "a time after the arrival, on the same clock"),
    ]
    for name, good, wanted in limits:
        if not good.all():
            row = int(np.argmin(good))
            value = getattr(trace, name)[row].item()
            raise TraceError(f"{place(row)}: {name} is {value!r}", f"It takes {wanted}")
    back = np.diff(trace.time) < 0
    if back.any():
        row = int(np.argmax(back)) + 1
        raise TraceError(
            f"{place(row)}: time goes back from {trace.time[row - 1].item()!r} to {trace.time[row].item()!r}",
            "Sort the lines by time",
        )


def _within(values: NDArray[np.int64], low: int, high: int) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (values >= low) & (values <= high)
    return found


def _write_csv(path: Path, columns: dict[str, NDArray[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in zip(*(column.tolist() for column in columns.values()), strict=True):
            writer.writerow("" if value == math.inf else value for value in row)
