"""One engine in a process of its own, and everything that was asked of it until that is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from headrace.errors import HeadraceError, NotReadyError, ServiceError, StoppingError
from headrace.service.attempts import Attempts
from headrace.service.delivery import Delivery
from headrace.service.house import House
from headrace.service.model_card import ModelCard
from headrace.service.service import Listener
from headrace.service.settings import ServiceSettings
from headrace.service.status import RoundSeen, Status
from headrace.service.wish import Wish

_TICK_S = 0.02  # how often deadlines, stalls and starts are looked at


class Supervisor:
    """A `Service`: keeps every wish with its newest snapshot, and replaces the engine's process when that dies.

    A wish that was accepted ends with its picture or fails alone, whatever happens to the process; what becomes of it
    is told once. It holds no global state: several may live in one process.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self._delivery = Delivery()
        self._changed = threading.Condition(threading.RLock())
        self._house = House(settings, self._delivery.put)
        self._attempts = Attempts(settings, self._house, self._changed)
        self._thread = threading.Thread(target=self._look_after, name="headrace-supervisor", daemon=True)
        self._draining = False
        self._over = False

    @property
    def model(self) -> ModelCard:
        """As `Service.model`."""
        card = self._attempts.card
        if card is None:
            raise NotReadyError("the engine's process has not loaded its model yet", "Ask again in a moment")
        return card

    def submit(self, wish: Wish, listen: Listener) -> str:
        """As `Service.submit`."""
        with self._changed:
            if self._draining or self._over:
                raise StoppingError("the service drains and takes no more wishes", "Ask another one")
            problem = self._attempts.problem
            if problem is not None:
                raise ServiceError(problem.problem, problem.remedy)
            ticket = self._house.take(wish, listen, self.model, self._attempts.back_in_s)
            self._attempts.hand_out()
        return ticket

    def cancel(self, ticket: str) -> bool:
        """As `Service.cancel`. A call of its listener that has begun comes to its end."""
        with self._changed:
            return self._attempts.cancel(ticket)

    def status(self) -> Status:
        """As `Service.status`."""
        with self._changed:
            attempts = self._attempts
            state = attempts.state
            if self._over or self._draining:
                state = "stopped" if self._over else "draining"
            return Status(
                state=state,
                load=self._house.load(attempts.back_in_s),
                **self._house.counts,
                restarts=attempts.restarts,
                max_rows=attempts.max_rows,
                memory_bytes=attempts.memory_bytes,
                policy=attempts.policy,
                problem=attempts.trouble,
            )

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Of the engine's process, while there is one."""
        with self._changed:
            return self._attempts.process_ids

    def watch(self, tell: Callable[[RoundSeen], None]) -> Callable[[], None]:
        """As `Service.watch`."""
        with self._changed:
            return self._house.watch(tell)

    def start(self, wait_s: float | None = None) -> None:
        """As `Service.start`. Once."""
        self._delivery.start()
        self._thread.start()
        if wait_s is None:
            return
        with self._changed:
            self._changed.wait_for(lambda: self._attempts.state not in ("starting", "restarting"), wait_s)
            problem, state = self._attempts.problem, self._attempts.state
        if problem is None and state != "ready":
            problem = NotReadyError(f"the engine's process did not start in {wait_s:g} s", "Give it more time")
        if problem is not None:
            self.stop()
            raise problem

    def stop(self, drain_s: float = 0.0) -> bool:
        """As `Service.stop`."""
        with self._changed:
            self._draining = True
            drained = self._changed.wait_for(lambda: self._house.empty, max(0.0, drain_s))
            self._house.fail_all(StoppingError("the service was stopped before the picture was done", "Ask again"))
            self._over = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
        self._delivery.stop()
        return drained

    def _look_after(self) -> None:
        """Starts and replaces the process, as the one thread that outlives it."""
        while not self._over:
            with self._changed:
                now = time.monotonic()
                try:
                    self._attempts.look(now)
                    self._attempts.expire(now)
                except HeadraceError as error:
                    self._attempts.give_up(error)
                self._changed.wait(_TICK_S)
        self._attempts.stop()
