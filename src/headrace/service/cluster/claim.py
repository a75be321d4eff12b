"""A wish that the cluster answers for, whichever replica has it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from headrace.service.events import Accepted, Event, Finished, Preview, Timing
from headrace.service.service import Listener
from headrace.service.wish import Wish


@dataclass
class Claim:
    """From `submit` to the end.

    Attributes:
        submitted: seconds on this process's clock.
        rows: of its plan as far as it is known: guessed, then as accepted.
        replica: that has it; None while there is none.
        accepted: whether its listener has heard so.
        previews: how many of them its listener has seen.
        lost: replicas that were lost while they had it.
        patient: whether replicas hear no more of its deadline: it was accepted, and they would refuse it.
    """

    ticket: str
    wish: Wish
    listen: Listener
    submitted: float
    rows: float
    replica: str | None = None
    accepted: bool = False
    previews: int = 0
    lost: int = 0
    patient: bool = False

    def wish_now(self, now: float) -> Wish:
        """The wish with what is left of its time."""
        if self.wish.timeout_s is None:
            return self.wish
        left = self.wish.timeout_s - (now - self.submitted)
        if self.patient:
            return replace(self.wish, timeout_s=None)
        return replace(self.wish, timeout_s=max(left, 1e-3))

    def hears(self, event: Event, offset: float) -> Event | None:
        """What its listener should hear of what a replica said; None for what it has heard before.

        `offset` brings the replica's times to this process's clock.
        """
        if isinstance(event, Accepted):
            self.rows = float(event.rows)
            if self.accepted:
                return None
            self.accepted = True
        elif isinstance(event, Preview):
            if event.index < self.previews:
                return None
            self.previews = event.index + 1
        elif isinstance(event, Finished):
            return replace(event, timing=self._timing(event.timing, offset))
        return event

    def _timing(self, timing: Timing, offset: float) -> Timing:
        def here(moment: float | None) -> float | None:
            return None if moment is None else max(self.submitted, moment + offset)

        finished = max(self.submitted, timing.finished + offset)
        return Timing(
            self.submitted, here(timing.started), here(timing.denoised), finished, timing.attempts + self.lost
        )
