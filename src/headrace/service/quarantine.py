"""Which wish is to blame when the engine's process dies, and which may run together afterwards.

The rules:

- A death that is the process's own doing (a crash, an exit, a hang that was ended, the kernel's out-of-memory killer)
  makes suspects of the wishes that were in slots. Each runs alone next, from its snapshot on, and is cleared once it
  has done the row that it was in when the process died. One that is suspected again later runs alone to its end.
- A wish that the process dies with while it runs alone, and that was there at two such deaths, is poison.
  So nobody is ever blamed for what others do.
- SIGKILL from outside is held against nobody. But the kernel's out-of-memory killer may look the same: a wish that was
  in a slot at so many kills without having got further becomes a suspect, and one that is killed as often again alone,
  without getting further, is poison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

CRASHES = 2  # of one wish, the last of them alone


@dataclass
class _Record:
    crashes: int = 0
    kills: int = 0
    furthest: int = -1  # row that it was in at the latest kill


class Quarantine:
    """Remembers wishes by their tickets, from the first death that they were there at until `over`."""

    def __init__(self, kills: int = 8) -> None:
        """`kills` at the same row make a suspect, twice as many a poison."""
        self._kills = kills
        self._records: dict[str, _Record] = {}
        self._suspects: dict[str, float] = {}  # ticket -> rows after which it is cleared; infinite: at its end

    @property
    def alone(self) -> str | None:
        """The suspect that now runs alone; None where all may run together."""
        return next(iter(self._suspects), None)

    def crashed(self, running: Mapping[str, int]) -> list[str]:
        """The process died of itself with these wishes in slots, after so many rows each. Returns the poison."""
        for ticket, row in running.items():
            record = self._records.setdefault(ticket, _Record())
            record.crashes += 1
            self._suspects.setdefault(ticket, 0)
            self._suspects[ticket] = max(self._suspects[ticket], row + 1 if record.crashes == 1 else math.inf)
        if len(running) == 1:
            return [ticket for ticket in running if self._records[ticket].crashes >= CRASHES]
        return []

    def killed(self, running: Mapping[str, int]) -> list[str]:
        """The process was killed from outside, as far as anybody knows. Returns the poison."""
        poison = []
        for ticket, row in running.items():
            record = self._records.setdefault(ticket, _Record())
            record.kills = record.kills + 1 if row <= record.furthest else 1
            record.furthest = max(record.furthest, row)
            if record.kills >= 2 * self._kills and len(running) == 1 and ticket in self._suspects:
                poison.append(ticket)
            elif record.kills >= self._kills:
                self._suspects.setdefault(ticket, row + 1)
        return poison

    def moved(self, ticket: str, row: int) -> bool:
        """A wish has a snapshot after `row` rows. Returns whether that cleared it."""
        if ticket not in self._suspects or row < self._suspects[ticket]:
            return False
        del self._suspects[ticket]
        return True

    def over(self, ticket: str) -> None:
        """A wish is done, failed or cancelled."""
        self._records.pop(ticket, None)
        self._suspects.pop(ticket, None)
