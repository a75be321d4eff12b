"""Pictures in the rows of tables: parquet files and Arrow streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.errors import DataError
from headrace.pictures.columns import Columns
from headrace.pictures.entry import Entry
from headrace.pictures.folder import read_bytes
from headrace.pictures.spread import evenly

_ROWS_AT_ONCE = 64  # pictures may be large, and no more than so many are copied out of a table at a time


class Shard(Protocol):
    """One file of a table. What cannot be read raises pyarrow's errors or `OSError`."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    def schema(self) -> pa.Schema:
        """Columns and their types."""
        ...

    def row_count(self) -> int:
        """Rows in it."""
        ...

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Its rows, a few at a time."""
        ...


@dataclass(frozen=True)
class ParquetShard:
    """A parquet file."""

    path: Path

    def schema(self) -> pa.Schema:
        """Columns and their types."""
        with pq.ParquetFile(self.path) as file:
            return file.schema_arrow

    def row_count(self) -> int:
        """Rows, by the file's footer."""
        with pq.ParquetFile(self.path) as file:
            return int(file.metadata.num_rows)

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Rows in the file's order."""
        with pq.ParquetFile(self.path) as file:
            yield from file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=columns)


@dataclass(frozen=True)
class StreamShard:
    """A file in Arrow's streaming format, mapped: only what is looked at is read."""

    path: Path

    def schema(self) -> pa.Schema:
        """Columns and their types."""
        with pa.memory_map(str(self.path)) as file:
            return pa.ipc.open_stream(file).schema

    def row_count(self) -> int:
        """Rows, by the headers of the stream's batches."""
        with pa.memory_map(str(self.path)) as file:
            return sum(batch.num_rows for batch in pa.ipc.open_stream(file))

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Rows in the file's order, in slices of the stream's batches."""
        with pa.memory_map(str(self.path)) as file:
            for batch in pa.ipc.open_stream(file):
                for first in range(0, batch.num_rows, _ROWS_AT_ONCE):
                    yield batch.slice(first, _ROWS_AT_ONCE).select(columns)


@dataclass(frozen=True)
class RowSource:
    """Rows `chosen` (a test of the row's number, counted through all files) of a table in one or several files."""

    name: str
    shards: Sequence[Shard]
    columns: Columns
    row_count: int
    chosen: Callable[[int], bool]

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, where the set declares them."""
        return self.columns.classes

    def __len__(self) -> int:
        return sum(map(self.chosen, range(self.row_count)))

    def entries(self) -> Iterator[Entry]:
        """Every chosen row. Raises `DataError` where a file breaks off."""
        before = 0
        for shard in self.shards:
            row = 0
            try:
                for batch in shard.batches(self.columns.names()):
                    for values in batch.to_pylist():
                        if self.chosen(before + row):
                            yield self._entry(row, values, shard.path)
                        row += 1
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"{str(shard.path)!r} cannot be read at row {row}: {error}", "Restore it") from None
            before += row

    def _entry(self, row: int, values: dict[str, Any], file: Path) -> Entry:
        """A picture that is named, not held, lies where its path says, or else beside the table."""
        image, name = values[self.columns.image], f"row {row}" + (f" of {file.name}" if len(self.shards) > 1 else "")
        if isinstance(image, dict):
            encoded, path = image.get("bytes"), image.get("path")
            if encoded is None and path:
                encoded, name = read_bytes(file.parent / path), f"{name} ({path})"
        else:
            encoded = image
        caption = values[self.columns.caption] if self.columns.caption else None
        label = values[self.columns.label] if self.columns.label else None
        return Entry(name, encoded, label, str(caption) if caption else None)


def open_shards(
    name: str, shards: Sequence[Shard], kind: str, find: Callable[[pa.Schema], Columns], limit: int | None
) -> RowSource:
    """The rows of all shards as one set, `limit` of them, evenly; `find` picks the columns from the first's schema.

    Raises `DataError` for a file that is not of its `kind`, or lacks a column that the first has.
    """
    rows, columns = 0, None
    for shard in shards:
        try:
            schema = shard.schema()
            rows += shard.row_count()
        except (pa.ArrowException, OSError) as error:
            remedy = "Give a parquet file, a folder of images or a saved Hugging Face dataset"
            raise DataError(f"{str(shard.path)!r} is not {kind}: {error}", remedy) from None
        columns = columns or find(schema)
        missing = set(columns.names()) - set(schema.names)
        if missing:
            raise DataError(
                f"{str(shard.path)!r} has no column {min(missing)!r}, and {shards[0].path.name!r} has",
                "Give files that belong to one set",
            )
    if columns is None:
        raise DataError(f"{name!r} holds no pictures: it has no rows", "Give another set")
    return RowSource(name, shards, columns, rows, evenly(rows, limit))
