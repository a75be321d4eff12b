"""Where processes of the engine come from: made when they are needed, or kept ready."""

from __future__ import annotations

from collections.abc import Callable

from headrace.service.process import EngineProcess

_AGAIN_S = 60.0  # between starts of processes that stand by


class Standby:
    """Makes processes with `make`; where `kept`, one that waits for its model is taken first."""

    def __init__(self, make: Callable[[], EngineProcess], kept: bool) -> None:
        self._make = make
        self._kept = kept
        self._spare: EngineProcess | None = None
        self._due = 0.0

    def take(self) -> EngineProcess:
        """A process that waits for `Begin`."""
        spare, self._spare = self._spare, None
        return spare or self._make()

    def look(self, now: float) -> None:
        """Has a process stand by, where none does. By the thread that outlives all processes."""
        if self._kept and self._spare is None and now >= self._due:
            self._spare, self._due = self._make(), now + _AGAIN_S

    def ended(self, process: EngineProcess) -> None:
        """A process ended; it may be the one that stood by."""
        if process is self._spare:
            self._spare = None

    def stop(self) -> None:
        """Ends the process that stands by."""
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.kill()
            spare.stop()
