"""The wishes that are held, what is promised of them, and who is told what becomes of them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from functools import partial

from headrace.errors import BusyError, DeadlineError, HeadraceError, PoisonError
from headrace.service.checks import check_wish
from headrace.service.events import Accepted, Event, Failed, Finished, Preview, Timing
from headrace.service.held import Held
from headrace.service.messages import Made, Planned, Shown
from headrace.service.model_card import ModelCard
from headrace.service.service import Listener
from headrace.service.settings import ServiceSettings
from headrace.service.status import Load, RoundSeen
from headrace.service.wish import Wish

Call = Callable[[], None]


class House:
    """Not safe by itself: its owner has a lock. `put` has calls made outside of that, in their order."""

    def __init__(self, settings: ServiceSettings, put: Callable[[Call], None]) -> None:
        self._settings = settings
        self._put = put
        self._held: dict[str, Held] = {}
        self._bytes = 0
        self._watchers: dict[object, Callable[[RoundSeen], None]] = {}
        self.counts = dict.fromkeys(("accepted", "finished", "failed", "cancelled", "poisoned"), 0)

    @property
    def held(self) -> Iterable[Held]:
        """In the order in which they came."""
        return self._held.values()

    @property
    def empty(self) -> bool:
        """Whether nothing is held."""
        return not self._held

    def get(self, ticket: str) -> Held | None:
        """A wish that is not over."""
        return self._held.get(ticket)

    def take(self, wish: Wish, listen: Listener, card: ModelCard, back_in_s: float) -> str:
        """Holds a wish. Raises `RequestError`, `BusyError`, `DeadlineError`, and then nothing is held."""
        check_wish(wish, card)
        now = time.monotonic()
        deadline = None if wish.timeout_s is None else now + wish.timeout_s
        held = Held(secrets.token_hex(8), wish, listen, now, deadline, wish.request.steps, 1.0)
        if len(self._held) >= self._settings.queue or self._bytes + held.nbytes > self._settings.queue_bytes:
            raise BusyError(f"{len(self._held)} wishes are held, as many as the service takes", 1.0, "Ask again later")
        self._held[held.ticket] = held
        self._bytes += held.nbytes
        return held.ticket

    def accept(self, held: Held, planned: Planned) -> None:
        """A wish was planned; who asked is told the first time."""
        held.rows, held.planned = planned.rows, True
        if not held.accepted:
            held.accepted = True
            self.counts["accepted"] += 1
            self._tell(held, Accepted(held.ticket, planned.rows, 0.0))

    def enter(self, tickets: Iterable[str], now: float) -> None:
        """Wishes get their slots."""
        for ticket in tickets:
            held = self._held.get(ticket)
            if held is not None:
                held.resident = True
                held.started = now if held.started is None else held.started

    def show(self, held: Held, shown: Shown) -> None:
        """A preview; one that was shown before is not shown again."""
        if shown.index >= held.previews:
            held.previews = shown.index + 1
            self._tell(held, Preview(held.ticket, shown.index, shown.row, shown.rows, shown.pixels))

    def save(self, held: Held, row: int, snapshot: bytes) -> None:
        """Keeps the newest snapshot of a wish."""
        before = held.nbytes
        held.snapshot, held.saved = snapshot, row
        self._bytes += held.nbytes - before

    def finish(self, held: Held, made: Made) -> None:
        """The pictures are there."""
        started = held.started if held.started is not None else made.started
        timing = Timing(held.submitted, started, made.denoised, time.monotonic(), held.attempts)
        self.counts["finished"] += 1
        self._end(held, Finished(held.ticket, made.pictures, timing, made.settings))

    def fail(self, held: Held, error: HeadraceError) -> None:
        """There will be no picture."""
        self.counts["failed"] += 1
        self.counts["poisoned"] += isinstance(error, PoisonError)
        self._end(held, Failed(held.ticket, error))

    def forget(self, held: Held) -> None:
        """Nobody wants it any more; its listener hears nothing."""
        held.cancelled = True
        self.counts["cancelled"] += 1
        self._remove(held)

    def fail_all(self, error: HeadraceError) -> None:
        """Fails everything that is held."""
        for held in list(self.held):
            self.fail(held, error)

    def expired(self, now: float) -> list[tuple[Held, DeadlineError]]:
        """Wishes whose time is over."""
        late = [held for held in self.held if held.deadline is not None and held.deadline <= now]
        return [(held, DeadlineError("the picture was not done within its time", 0.0, "Give it more")) for held in late]

    def load(self, back_in_s: float) -> Load:
        """How much there is to do."""
        resident = [held for held in self.held if held.resident]
        denoising = sum(1 for held in resident if held.rows_left)
        rows = sum(held.rows_left for held in self.held)
        return Load(len(self._held) - len(resident), denoising, len(resident) - denoising, rows, back_in_s)

    def watch(self, tell: Callable[[RoundSeen], None]) -> Call:
        """Has `tell` called after every round, until the function that is returned is called."""
        key = object()
        self._watchers[key] = tell
        return lambda: self._watchers.pop(key, None) and None

    def turned(self, seen: RoundSeen) -> None:
        """A round was run."""
        for row in seen.rows:
            held = self._held.get(row.ticket)
            if held is not None:
                held.row = max(held.row, row.row)
        for tell in self._watchers.values():
            self._put(partial(tell, seen))

    def _tell(self, held: Held, event: Event) -> None:
        self._put(lambda: None if held.cancelled else held.listen(event))

    def _end(self, held: Held, event: Event) -> None:
        self._remove(held)
        self._tell(held, event)

    def _remove(self, held: Held) -> None:
        del self._held[held.ticket]
        self._bytes -= held.nbytes
        held.snapshot = None
