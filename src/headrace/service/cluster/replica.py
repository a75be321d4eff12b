"""One engine of a cluster, as it is called from afar. Knows nothing of Ray."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

from headrace.errors import HeadraceError, NotReadyError
from headrace.service.cluster.messages import Order, Report, Said
from headrace.service.events import Event, Failed, Finished
from headrace.service.service import Service
from headrace.service.status import RoundSeen

_ROUNDS = 512  # kept for who asks seldom
_TICKETS = 4096  # of orders that are over, so that the last rounds still know their names


class Replica:
    """A service of this process, started at once, that takes orders. Coroutines run on one event loop.

    Engines start in the background: a replica that loads a model, or cannot, reports so.
    """

    def __init__(self, name: str, service: Service, start_s: float = 600.0) -> None:
        self.name = name
        self._service = service
        self._orders: dict[str, str] = {}  # the cluster's tickets -> the service's
        self._names: OrderedDict[str, str] = OrderedDict()  # the other way round, of orders that are over too
        self._lock = threading.Lock()
        self._rounds: deque[RoundSeen] = deque(maxlen=_ROUNDS)
        self._seen = 0
        self._error: HeadraceError | None = None
        self._unwatch: Callable[[], None] = service.watch(self._saw)
        threading.Thread(target=self._start, args=(start_s,), name="headrace-start", daemon=True).start()

    def _start(self, start_s: float) -> None:
        try:
            self._service.start(wait_s=start_s)
        except HeadraceError as error:
            self._error = error

    def _saw(self, seen: RoundSeen) -> None:
        with self._lock:
            self._rounds.append(seen)
            self._seen += 1

    async def make(self, order: Order) -> AsyncGenerator[Said, None]:
        """Says what becomes of an order, and drops it where nobody listens any more."""
        loop = asyncio.get_running_loop()
        heard: asyncio.Queue[Event] = asyncio.Queue()

        def listen(event: Event) -> None:
            loop.call_soon_threadsafe(heard.put_nowait, event)

        try:
            ticket = self._service.submit(order.wish, listen)
        except HeadraceError as error:
            yield Said(Failed(order.ticket, error), refused=True)
            return
        self._remember(order.ticket, ticket)
        try:
            while True:
                event = await heard.get()
                yield Said(replace(event, ticket=order.ticket))
                if isinstance(event, Finished | Failed):
                    return
        finally:
            self._orders.pop(order.ticket, None)
            self._service.cancel(ticket)

    def _remember(self, order: str, ticket: str) -> None:
        self._orders[order] = ticket
        with self._lock:
            self._names[ticket] = order
            while len(self._names) > max(_TICKETS, len(self._orders)):
                self._names.popitem(last=False)

    async def report(self, seen: int, patience_s: float = 0.0) -> Report:
        """How it is; waits up to `patience_s` seconds for another round than those `seen`."""
        until = time.monotonic() + patience_s
        while self._seen == seen and time.monotonic() < until:
            await asyncio.sleep(min(0.05, patience_s))
        with self._lock:
            new = max(0, min(self._seen - seen, len(self._rounds)))
            rounds = tuple(self._named(one) for one in list(self._rounds)[len(self._rounds) - new :])
            count, row_s = self._seen, _row_seconds(self._rounds)
        try:
            model = self._service.model
        except NotReadyError:
            model = None
        return Report(
            self.name, time.monotonic(), self._service.status(), model, frozenset(self._orders), row_s, rounds, count,
            self._error,
        )  # fmt: skip

    def _named(self, seen: RoundSeen) -> RoundSeen:
        rows = tuple(replace(row, ticket=self._names.get(row.ticket, row.ticket)) for row in seen.rows)
        chunks = tuple(replace(chunk, ticket=self._names.get(chunk.ticket, chunk.ticket)) for chunk in seen.chunks)
        return replace(seen, rows=rows, chunks=chunks)

    @property
    def ended(self) -> str:
        """Why it should be replaced, in words; empty where it is well."""
        status = self._service.status()
        if self._error is None and status.state not in ("failed", "stopped"):
            return ""
        return status.problem or str(self._error or f"its engine is {status.state}")

    def clear_s(self) -> float:
        """Seconds until all that it has should be done."""
        return self._service.status().load.clear_s

    def stop(self, drain_s: float = 0.0) -> None:
        """Ends its engine."""
        self._unwatch()
        self._service.stop(drain_s)


def _row_seconds(rounds: deque[RoundSeen]) -> float:
    """Seconds a plan row, of the rounds at hand that ran any."""
    ran = [one for one in rounds if one.rows]
    rows = sum(len(one.rows) for one in ran)
    return sum(one.seconds for one in ran) / rows if rows else 0.0
