"""Wishes of one caller on their way: from the service's threads to the event loop, and dropped together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from types import TracebackType

from headrace.service import Event, Failed, Finished, Service, Wish
from headrace.service.service import Listener

Told = tuple[int, Event]


class Flight:
    """Some wishes that belong together. Leaving the `async with` block drops those that are not over.

    Made and used on the event loop.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._told: asyncio.Queue[Told] = asyncio.Queue()
        self._open: set[int] = set()
        self.tickets: list[str] = []

    async def __aenter__(self) -> Flight:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cancel()

    def submit(self, wishes: Sequence[Wish]) -> None:
        """All of them, or none and the service's error."""
        for wish in wishes:
            index = len(self.tickets)
            try:
                ticket = self._service.submit(wish, self._listener(index))
            except BaseException:
                self.cancel()
                raise
            self.tickets.append(ticket)
            self._open.add(index)

    async def events(self) -> AsyncIterator[Told]:
        """(index of the wish, what became of it), as it comes, until all are over."""
        while self._open:
            index, event = await self._told.get()
            if isinstance(event, Finished | Failed):
                self._open.discard(index)
            yield index, event

    def handed_on(self) -> Flight:
        """The same wishes, for somebody else to hear of and drop; this one is empty then."""
        other = Flight(self._service)
        other._told, other._open, other.tickets = self._told, self._open, self.tickets
        self._open = set()
        return other

    def cancel(self) -> int:
        """Drops what is not over; returns how many that were."""
        dropped = len(self._open)
        for index in self._open:
            self._service.cancel(self.tickets[index])
        self._open.clear()
        return dropped

    def _listener(self, index: int) -> Listener:
        put: Callable[[Told], None] = self._told.put_nowait

        def listen(event: Event) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(put, (index, event))

        return listen
