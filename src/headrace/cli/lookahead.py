"""An iterator that is read in a thread, a few items ahead, so that a slow pipe never holds the engine up."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Lookahead(Generic[T]):
    """At most `size` items of `items` are held. `exhausted` once the last one was taken."""

    def __init__(self, items: Iterable[T], size: int) -> None:
        self._queue: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(maxsize=size)
        self.exhausted = False
        threading.Thread(target=self._read, args=(items,), daemon=True).start()

    def _read(self, items: Iterable[T]) -> None:
        try:
            for item in items:
                self._queue.put((item,))
        except BaseException as error:
            self._queue.put(error)
        else:
            self._queue.put(None)

    def take(self, wait: bool) -> T | None:
        """The next item; None where there is none (now, unless `wait`). Raises what reading raised."""
        if self.exhausted:
            return None
        try:
            entry = self._queue.get(block=wait)
        except queue.Empty:
            return None
        if isinstance(entry, tuple):
            return entry[0]
        self.exhausted = True
        if entry is not None:
            raise entry
        return None
