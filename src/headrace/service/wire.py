"""Messages between two processes of one service, over a socket pair."""

from __future__ import annotations

import pickle
from multiprocessing.connection import Connection
from threading import Lock
from typing import Any


class Wire:
    """Sends from any thread, whole messages in order; one thread receives.

    Both ends are processes of the same service and nobody else holds the sockets, so pickles are safe here.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._sending = Lock()

    def send(self, message: object) -> None:
        """Returns when the other side, or the socket's buffer, has it. Raises `OSError` where nobody is there."""
        content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        with self._sending:
            self.connection.send_bytes(content)

    def receive(self) -> Any:
        """The next message. Raises `EOFError` or `OSError` where the other side is gone."""
        return pickle.loads(self.connection.recv_bytes())

    def close(self) -> None:
        """No more messages."""
        self.connection.close()
