"""A NumPy file that grows."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np


class ArrayFile:
    """A .npy file [N, *shape] that rows are appended to; N stands in its header once it is closed."""

    def __init__(self, path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        self._file = path.open("wb")
        self._dtype, self._shape = dtype, shape
        self.count = 0
        self._write_header()

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def append(self, rows: np.ndarray) -> None:
        """Rows [n, *shape] of the file's type, or a ValueError."""
        if rows.shape[1:] != self._shape or rows.dtype != self._dtype:
            raise ValueError(f"rows of {rows.shape[1:]} {rows.dtype} in a file of {self._shape} {self._dtype}")
        self._file.write(np.ascontiguousarray(rows).tobytes())
        self.count += len(rows)

    def close(self) -> None:
        """Complete the header, which NumPy pads so that its first dimension can grow in place."""
        if not self._file.closed:
            try:
                self._write_header()
            finally:
                self._file.close()

    def _write_header(self) -> None:
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False}
        self._file.seek(0)
        np.lib.format.write_array_header_1_0(self._file, {**header, "shape": (self.count, *self._shape)})
        self._file.seek(0, 2)
