"""What the HTTP side asks of whoever makes the pictures: one supervised engine, or a cluster of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from headrace.service.events import Event
from headrace.service.model_card import ModelCard
from headrace.service.status import RoundSeen, Status
from headrace.service.wish import Wish

Listener = Callable[[Event], None]


class Service(Protocol):
    """Makes pictures. All methods may be called from any thread and return at once, `start` and `stop` excepted.

    Listeners are called from the service's threads: they hand on and return, and raise nothing.
    """

    @property
    def model(self) -> ModelCard:
        """The served model. Raises `NotReadyError` before the engine has loaded it for the first time."""
        ...

    def submit(self, wish: Wish, listen: Listener) -> str:
        """Takes a wish and returns its ticket; `listen` hears what becomes of it, ending with Finished or Failed.

        Raises, and then nothing was taken and `listen` hears nothing: `RequestError` for what this model cannot make;
        `BusyError` where the queue is full (its `retry_after_s` is when there should be room); `DeadlineError` where
        the picture would not be there in `timeout_s`; `NotReadyError` while starting for the first time, and
        `StoppingError` once it drains.
        """
        ...

    def cancel(self, ticket: str) -> bool:
        """Drops a wish within one round; its listener hears nothing more. False where it is over or unknown."""
        ...

    def status(self) -> Status:
        """How it is now."""
        ...

    def watch(self, tell: Callable[[RoundSeen], None]) -> Callable[[], None]:
        """Has `tell` called after every round, until the function that is returned is called."""
        ...

    def start(self, wait_s: float | None = None) -> None:
        """Starts; with `wait_s` returns when it is ready. Raises `ModelError` or `ServiceError` where it cannot be."""
        ...

    def stop(self, drain_s: float = 0.0) -> bool:
        """Takes no more wishes, waits at most so long for those that are there, fails the rest, and ends.

        Returns whether all were done.
        """
        ...
