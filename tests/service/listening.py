"""Who listens in tests, and supervisors to listen to."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

from headrace.service.events import Accepted, Failed, Finished, Preview
from headrace.service.settings import ServiceSettings
from headrace.service.supervisor import Supervisor

PATIENCE_S = 240  # for what takes a moment


class Ears:
    """Hears events of many wishes."""

    def __init__(self):
        self.events = {}
        self.changed = threading.Condition()

    def __call__(self, event):
        with self.changed:
            self.events.setdefault(event.ticket, []).append(event)
            self.changed.notify_all()

    def kinds(self, ticket):
        return [type(event) for event in self.events.get(ticket, [])]

    def over(self, tickets):
        """The last events of these wishes, once there are any."""
        with self.changed:
            assert self.changed.wait_for(lambda: all(self._last(ticket) for ticket in tickets), PATIENCE_S), {
                ticket: self.kinds(ticket) for ticket in tickets if not self._last(ticket)
            }
        return [self._last(ticket) for ticket in tickets]

    def _last(self, ticket):
        events = self.events.get(ticket, [])
        return events[-1] if events and isinstance(events[-1], Finished | Failed) else None

    def in_order(self, tickets):
        """Whether each heard once that it was accepted, previews in order, and one end."""
        for ticket in tickets:
            first, *middle, last = self.events[ticket]
            previews = [event.index for event in middle]
            good = isinstance(first, Accepted) and all(isinstance(event, Preview) for event in middle)
            if not (good and isinstance(last, Finished | Failed) and previews == sorted(set(previews))):
                return False
        return True


def eventually(condition):
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


@contextmanager
def fake_service(**options):
    """A supervisor of a `fake_engine`, ready."""
    values = {"program": "fake_engine", "slots": 4, "backoff_s": 0.01, "beat_s": 0.05}
    service = Supervisor(ServiceSettings("fake", **{**values, **options}))
    service.start(PATIENCE_S)
    try:
        yield service
    finally:
        service.stop()
