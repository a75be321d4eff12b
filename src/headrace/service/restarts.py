"""When a process that died is followed by another, and when no more."""

from __future__ import annotations

_LONGEST_S = 60.0
_KILLED = 8  # times as many starts may be ended from outside


class Restarts:
    """Counts starts in a row that came to nothing. The first restart is at once, later ones wait twice as long each."""

    def __init__(self, failed_starts: int, backoff_s: float) -> None:
        self._most = failed_starts
        self._backoff_s = backoff_s
        self._failed = 0
        self._killed = 0

    def went_well(self) -> None:
        """The process ran a round, or it is known which wish it died of."""
        self._failed = self._killed = 0

    def failed(self, killed: bool) -> None:
        """A process ended before it was of any use; `killed`: by a signal from outside, as far as anybody knows."""
        if killed:
            self._killed += 1
        else:
            self._failed += 1

    @property
    def exhausted(self) -> bool:
        """Whether there is no point in another one."""
        return self._failed >= self._most or self._killed >= _KILLED * self._most

    @property
    def wait_s(self) -> float:
        """Seconds until the next start."""
        failures = self._failed + self._killed
        return 0.0 if failures == 0 else min(self._backoff_s * 2.0 ** (failures - 1), _LONGEST_S)
