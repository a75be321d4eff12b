"""How much of the machine batches may have."""

from __future__ import annotations

import threading
from dataclasses import dataclass

DAY_S = 86_400


@dataclass(frozen=True)
class BatchLimits:
    """What the operator grants.

    Attributes:
        lines: of one batch.
        file_bytes: of one uploaded file.
        line_bytes: of one line; a longer one is a bad line.
        stored_bytes: of all files and pictures; above it nothing is uploaded, and batches wait for room.
        in_flight: pictures of batches that the engine has at once, waiting ones counted.
        batches: that are not over.
        retention_s: seconds that a file, and what a batch made, are kept.
    """

    lines: int = 50_000
    file_bytes: int = 200_000_000
    line_bytes: int = 100_000
    stored_bytes: int = 10_000_000_000
    in_flight: int = 8
    batches: int = 100
    retention_s: int = 30 * DAY_S


class Space:
    """How many bytes files and pictures take; for any thread."""

    def __init__(self, limit: int, used: int) -> None:
        self.limit = limit
        self._used = used
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes."""
        return self._used

    @property
    def full(self) -> bool:
        """Whether nothing more may be kept."""
        return self._used >= self.limit

    def add(self, size: int) -> None:
        """Counts `size` bytes more, or less where it is below 0."""
        with self._lock:
            self._used += size
