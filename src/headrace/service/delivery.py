"""Who is told of events: one thread, so that everybody hears them in the order in which they came about."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Delivery:
    """Calls what it is given, one after another, in a thread of its own."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="headrace-delivery", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def put(self, call: Callable[[], None]) -> None:
        """Has `call` called after those before it. Returns at once."""
        self._calls.put(call)

    def stop(self) -> None:
        """Returns when everything that was put was called."""
        self._calls.put(None)
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except Exception:  # a defect of who listens, which nobody else is to suffer from
                _log.exception("a listener of the service raised")
