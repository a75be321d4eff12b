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
from headrace.service.outlook import Outlook
from headrace.service.service import Listener
from headrace.service.settings import ServiceSettings
from headrace.service.status import Load, RoundSeen
from headrace.service.wish import Wish

Call = Callable[[], None]
_LEAST_RETRY_S = 0.5


class House:
    """Not safe by itself: its owner has a lock. `put` has calls made outside of that, in their order."""

    def __init__(self, settings: ServiceSettings, put: Callable[[Call], None]) -> None:
        self._settings = settings
        self._put = put
        self._held: dict[str, Held] = {}
        self._bytes = 0
        self.outlook = Outlook(settings.slots)
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
        now, outlook = time.monotonic(), self.outlook
        deadline = None if wish.timeout_s is None else now + wish.timeout_s
        held = Held(
            secrets.token_hex(8), wish, listen, now, deadline, outlook.rows(wish), outlook.cost(wish),
            outlook.slots(wish),
        )  # fmt: skip
        self._check_room(held, back_in_s)
        expected_s = back_in_s + outlook.ends([*self.held, held])[-1]
        self._check_time(held, expected_s, back_in_s)
        held.expected = now + expected_s
        self._held[held.ticket] = held
        self._bytes += held.nbytes
        return held.ticket

    def _check_room(self, held: Held, back_in_s: float) -> None:
        """Raises `BusyError` where the queue is full."""
        settings = self._settings
        if len(self._held) < settings.queue and self._bytes + held.nbytes <= settings.queue_bytes:
            return
        soonest = min(self.outlook.lately(self.held), default=0.0)
        kept = f"{len(self._held)} wishes are held, {self._bytes >> 20} MiB"
        limits = f"{settings.queue} and {settings.queue_bytes >> 20} MiB"
        raise BusyError(f"{kept}, and the service takes {limits}", _patience(back_in_s + soonest), "Ask again later")

    def _check_time(self, held: Held, expected_s: float, back_in_s: float) -> None:
        """Raises `BusyError` where others would delay the wish too long, `DeadlineError` where it would be late."""
        timeout_s, most_s = held.wish.timeout_s, self._settings.max_wait_s
        if timeout_s is not None and expected_s > timeout_s:
            problem = f"the picture should take {expected_s:.1f} s, and it is to be there in {timeout_s:g} s"
            raise DeadlineError(problem, expected_s, "Give it more time, or ask for fewer steps")
        waits = expected_s - back_in_s - self.outlook.alone(held)
        if self._held and waits > most_s:
            problem = f"what is waiting would delay the picture by {waits:.0f} s, and the limit is {most_s:g} s"
            raise BusyError(problem, _patience(waits - most_s), "Ask again later")

    def accept(self, held: Held, planned: Planned) -> None:
        """A wish was planned; who asked is told the first time."""
        held.rows, held.planned = planned.rows, True
        if not held.accepted:
            held.accepted = True
            self.counts["accepted"] += 1
            self.outlook.planned(held.wish, planned.rows)
            self._tell(held, Accepted(held.ticket, planned.rows, max(0.0, held.expected - time.monotonic())))

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

    def running(self, checked: bool) -> dict[str, int]:
        """Wishes in slots, and after how many rows each.

        With `checked` also the one that the process was planning: the first that it was sent and said nothing of.
        """
        running = {held.ticket: held.row for held in self.held if held.resident}
        unheard = [held for held in self.held if held.sent and not held.planned]
        if checked and unheard:
            running[min(unheard, key=lambda held: held.order).ticket] = 0
        return running

    def expired(self, now: float) -> list[tuple[Held, DeadlineError]]:
        """Wishes whose time is over."""
        late = [held for held in self.held if held.deadline is not None and held.deadline <= now]
        return [(held, DeadlineError("the picture was not done within its time", 0.0, "Give it more")) for held in late]

    def load(self, back_in_s: float) -> Load:
        """How much there is to do."""
        resident = [held for held in self.held if held.resident]
        denoising = sum(1 for held in resident if held.rows_left)
        rows = sum(held.rows_left for held in self.held)
        clear_s = back_in_s + max(self.outlook.lately(self.held), default=0.0)
        return Load(len(self._held) - len(resident), denoising, len(resident) - denoising, rows, clear_s)

    def watch(self, tell: Callable[[RoundSeen], None]) -> Call:
        """Has `tell` called after every round, until the function that is returned is called."""
        key = object()
        self._watchers[key] = tell
        return lambda: self._watchers.pop(key, None) and None

    def turned(self, seen: RoundSeen) -> None:
        """A round was run."""
        self.outlook.turned(seen)
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


def _patience(seconds: float) -> float:
    """Seconds to tell somebody to wait: never none, so that nobody asks in a circle."""
    return max(_LEAST_RETRY_S, seconds)
