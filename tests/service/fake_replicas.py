"""Replicas in this process, with engines that do as they are told, that can be killed."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from headrace.errors import HeadraceError, NotReadyError, StoppingError
from headrace.request import Request
from headrace.service import (
    Accepted,
    Failed,
    Finished,
    Load,
    ModelCard,
    Preview,
    RoundSeen,
    RowSeen,
    Status,
    Timing,
    Wish,
)
from headrace.service.cluster import Order, Replica, ReplicaLostError
from headrace.service.cluster.messages import ReplicaRetiredError

CARD = ModelCard(
    name="tiny", family="tiny", conditioning=None, classes=0, guided=False, default_guidance=1.0, default_steps=10,
    default_solver="ddim", default_size=(8, 8), size_multiple=8, max_pixels=64 * 64, solvers=("ddim",),
)  # fmt: skip


def wish(seed: int = 0, steps: int = 10, **conditions: object) -> Wish:
    return Wish(Request(seed=seed, steps=steps), **conditions)


class FakeEngine:
    """A `Service` that accepts at once, and makes pictures when told (`hold`) or at once.

    Attributes:
        clear_s: that it reports. `refuse`: what `submit` raises. `state`: that it reports.
        here: wishes by ticket. `dropped`: tickets that were cancelled. `shown`: previews that go before each end.
    """

    def __init__(self, hold: bool = False, error: HeadraceError | None = None) -> None:
        self.hold = hold
        self.error = error
        self.state = "ready"
        self.clear_s = 0.0
        self.refuse: HeadraceError | None = None
        self.here: dict[str, tuple[Wish, Callable]] = {}
        self.seen: list[Wish] = []
        self.dropped: list[str] = []
        self.stopped = False
        self.shown = 0
        self._numbers = itertools.count()
        self._watchers: list[Callable] = []

    @property
    def model(self) -> ModelCard:
        if self.error is not None or self.state == "starting":
            raise NotReadyError("not loaded")
        return CARD

    def submit(self, wish: Wish, listen: Callable) -> str:
        if self.refuse is not None:
            raise self.refuse
        ticket = f"own{next(self._numbers)}"
        self.here[ticket] = (wish, listen)
        self.seen.append(wish)
        listen(Accepted(ticket, wish.request.steps, 1.0))
        if not self.hold:
            self.finish(ticket)
        return ticket

    def show(self, index: int) -> None:
        """A preview of all that are here."""
        for ticket, (one, listen) in list(self.here.items()):
            listen(Preview(ticket, index, index + 1, one.request.steps, np.zeros((8, 8, 3), np.uint8)))

    def turn(self) -> None:
        """A round with a row of all that are here."""
        rows = tuple(
            RowSeen(ticket, 1, one.request.steps, 8, 8, False, False) for ticket, (one, _) in self.here.items()
        )
        seen = RoundSeen(0, time.monotonic(), 0.01, 0.01, 0.0, rows, (), 1, len(rows), 0, len(rows), 0, "all")
        for tell in self._watchers:
            tell(seen)

    def finish(self, ticket: str | None = None) -> None:
        for name in [ticket] if ticket else list(self.here):
            one, listen = self.here.pop(name)
            now = time.monotonic()
            pixels = np.full((8, 8, 3), one.request.seed % 256, np.uint8)
            listen(Finished(name, (pixels,), Timing(now, now, now, now)))

    def fail(self, error: HeadraceError) -> None:
        for name, (_, listen) in list(self.here.items()):
            del self.here[name]
            listen(Failed(name, error))

    def cancel(self, ticket: str) -> bool:
        if self.here.pop(ticket, None) is None:
            return False
        self.dropped.append(ticket)
        return True

    def status(self) -> Status:
        load = Load(denoising=len(self.here), rows=10 * len(self.here), clear_s=self.clear_s)
        return Status(self.state, load, max_rows=32, memory_bytes=100, policy="fake", restarts=1)

    def watch(self, tell: Callable) -> Callable[[], None]:
        self._watchers.append(tell)
        return lambda: self._watchers.remove(tell)

    def start(self, wait_s: float | None = None) -> None:
        if self.error is not None:
            self.state = "failed"
            raise self.error

    def stop(self, drain_s: float = 0.0) -> bool:
        self.fail(StoppingError("stopped"))
        self.stopped = True
        return True


class FakeFleet:
    """Replicas that are there by name; `kill` breaks every call to one, as a machine that is switched off does."""

    def __init__(self, engines: dict[str, FakeEngine]) -> None:
        self.engines = dict(engines)
        self.hosts: dict[str, Replica] = {}
        self.killed: dict[str, ReplicaLostError] = {}
        self.started = threading.Event()
        self.ended = threading.Event()

    def start(self) -> None:
        for name in self.engines:
            self.hosts[name] = Replica(name, self.engines[name])
        self.started.set()

    def stop(self) -> None:
        self.ended.set()

    def add(self, name: str, engine: FakeEngine) -> None:
        self.engines[name] = engine
        self.hosts[name] = Replica(name, engine)

    def kill(self, name: str) -> None:
        self.killed[name] = ReplicaLostError(f"{name} is dead")

    def retire(self, name: str) -> None:
        self.killed[name] = ReplicaRetiredError(f"{name} is one too many")

    async def replicas(self) -> list[str]:
        return [name for name in self.hosts if name not in self.killed]

    async def report(self, replica: str, seen: int, patience_s: float):
        if replica in self.killed:
            raise self.killed[replica]
        return await self.hosts[replica].report(seen, 0.0)

    async def make(self, replica: str, order: Order):
        stream = self.hosts[replica].make(order)
        upcoming = asyncio.ensure_future(anext(stream, None))
        try:
            while True:
                while not upcoming.done():
                    if isinstance(self.killed.get(replica), ReplicaLostError) and not self._retired(replica):
                        raise self.killed[replica]
                    await asyncio.wait([upcoming], timeout=0.005)
                said = upcoming.result()
                if said is None:
                    return
                yield said
                upcoming = asyncio.ensure_future(anext(stream, None))
        finally:
            upcoming.cancel()
            await asyncio.wait([upcoming])
            await stream.aclose()

    def _retired(self, replica: str) -> bool:
        return isinstance(self.killed.get(replica), ReplicaRetiredError)


@dataclass
class Ear:
    """Hears what becomes of one wish."""

    heard: list = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def __call__(self, event: object) -> None:
        self.heard.append(event)
        if isinstance(event, Finished | Failed):
            self.over.set()

    @property
    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.heard]

    def wait(self, seconds: float = 10.0) -> object:
        assert self.over.wait(seconds), self.heard
        return self.heard[-1]


def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    """Waits for something that another thread does."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)
