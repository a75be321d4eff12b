"""A server in a thread, for clients of sockets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from http_app import Lines

from headrace.api.app import create_app
from headrace.api.logs import make_log
from headrace.api.server import Server, address_of, listen
from headrace.api.settings import ApiSettings
from headrace.service import Service


@contextmanager
def served(service: Service, settings: ApiSettings | None = None, log: Any = None) -> Iterator[str]:
    """The address of a server over that service; it ends with the block, and the service with it."""
    server = Server(create_app(service, settings, log or make_log("json", Lines())), service, drain_s=5)
    with listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.serve_on, args=(listening,))
        thread.start()
        try:
            yield address_of(listening)
        finally:
            server.should_exit = True
            thread.join()
