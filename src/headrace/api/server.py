"""uvicorn, told to finish what was accepted before it ends."""

from __future__ import annotations

import ipaddress
import signal
import socket
import threading
from types import FrameType

import uvicorn
from fastapi import FastAPI

from headrace.api.logs import LogFormat, uvicorn_logs
from headrace.errors import HeadraceError, ServiceError
from headrace.service import Service

# After the last picture, for answers that are still being written.
_GRACE_S = 5
_KEEP_ALIVE_S = 30


class Server(uvicorn.Server):
    """Serves an app until a signal, then drains its service: what was accepted is done, at most `drain_s` seconds.

    Meanwhile new requests and /readyz are answered with 503. A second signal ends it at once.
    """

    def __init__(self, app: FastAPI, service: Service, drain_s: float, log_format: LogFormat = "json") -> None:
        config = uvicorn.Config(
            app, log_config=uvicorn_logs(log_format), access_log=False, server_header=False, lifespan="on",
            timeout_keep_alive=_KEEP_ALIVE_S, timeout_graceful_shutdown=_GRACE_S, backlog=2048,
        )  # fmt: skip
        super().__init__(config)
        self._service = service
        self._drain_s = drain_s
        self._draining: threading.Thread | None = None
        self._given_up = False
        self.drained: bool | None = None
        self.error: HeadraceError | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to drain; the second time gives that up. uvicorn calls this for SIGINT and SIGTERM."""
        if self._draining is None:
            self._draining = threading.Thread(target=self._drain, name="drain")
            self._draining.start()
        else:
            self._given_up = self.should_exit = True
            self.force_exit = sig == signal.SIGINT
            threading.Thread(target=self._service.stop, name="stop", daemon=True).start()

    def fail(self, error: HeadraceError) -> None:
        """Ends at once, as the service cannot be used; `serve_on` raises the error. From any thread."""
        self.error = error
        self.should_exit = True

    @property
    def ending(self) -> bool:
        """Whether it was told to end."""
        return self._draining is not None

    def serve_on(self, listening: socket.socket) -> None:
        """Answers until told to end. Raises the error that `fail` was given."""
        try:
            self.run(sockets=[listening])
        finally:
            if self._draining is not None:
                self._draining.join()
            else:
                self._service.stop()
        if self.error is not None:
            raise self.error

    def _drain(self) -> None:
        # Where a second signal failed what there was, nothing is left either.
        self.drained = self._service.stop(self._drain_s) and not self._given_up
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises `ServiceError` where the port is taken or the address is none of here."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError, OverflowError) as error:
        problem = f"the address {host}:{port} is none: {getattr(error, 'strerror', None) or error}"
        raise ServiceError(problem, "Give --host an address of this machine, such as 127.0.0.1") from None
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or error
        raise ServiceError(
            f"{host}:{port} cannot be listened on: {reason}", "Give another --port, or end what listens there"
        ) from None
    listening.set_inheritable(False)
    return listening


def is_loopback(host: str) -> bool:
    """Whether every address of that name is reached from this machine alone."""
    try:
        found = {str(one[4][0]) for one in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found)


def address_of(listening: socket.socket) -> str:
    """http://HOST:PORT by which this machine reaches it."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
