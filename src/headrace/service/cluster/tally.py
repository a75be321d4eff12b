"""What became of a cluster's wishes, counted."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.errors import PoisonError
from headrace.service.events import Accepted, Event, Failed, Finished


@dataclass
class Tally:
    """As in `Status`, since the start."""

    accepted: int = 0
    finished: int = 0
    failed: int = 0
    cancelled: int = 0
    poisoned: int = 0

    def count(self, event: Event | None) -> None:
        """One that a listener heard."""
        if isinstance(event, Accepted):
            self.accepted += 1
        elif isinstance(event, Finished):
            self.finished += 1
        elif isinstance(event, Failed):
            self.failed += 1
            self.poisoned += isinstance(event.error, PoisonError)
