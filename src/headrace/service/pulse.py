"""Whether a process still lives, by what was heard of it."""

from __future__ import annotations

from headrace.service.messages import Beat

_PATIENCE = 10  # times the longest round so far is no stall


class Pulse:
    """Of one process after another. Times are monotonic seconds.

    Attributes:
        heard: when it last said anything.
        beat: the last sign of life of the present process.
    """

    def __init__(self, start_s: float, stall_s: float) -> None:
        self._start_s = start_s
        self._stall_s = stall_s
        self._longest_s = 0.0
        self._began = 0.0
        self._ready = False
        self.heard = 0.0
        self.beat: Beat | None = None

    def began(self, now: float) -> None:
        """Another process was started."""
        self._began, self._ready, self.beat = now, False, None

    def ready(self) -> None:
        """It has loaded its model."""
        self._ready = True

    def turned(self, seconds: float) -> None:
        """It ran a round."""
        self._longest_s = max(self._longest_s, seconds)

    def hangs(self, now: float) -> bool:
        """Whether it says nothing any more, or its main thread has been at one thing for too long."""
        if not self._ready:
            return now - self._began > self._start_s
        limit = max(self._stall_s, _PATIENCE * self._longest_s)
        stuck = self.beat is not None and self.beat.busy and now - self.beat.moved > limit
        return stuck or now - self.heard > limit
