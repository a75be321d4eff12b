"""Servers in processes of their own, as an operator starts them; started, waited for, ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import httpx

from headrace.benchmarks._serving.generator import Target
from headrace.errors import ServiceError

_START_S, _STOP_S, _LOOK_S = 300.0, 20.0, 0.2
_LOG_LINES = 12


class ServerProcess:
    """A server on a free port of the loopback interface, started at once; as a context manager it is ended after."""

    def __init__(self, name: str, command: Sequence[str], ready: str = "/v1/models") -> None:
        """`command` gets `--port N` at its end; the server is ready when a GET of `ready` succeeds."""
        self.name = name
        self._ready = ready
        port = free_port()
        self.target = Target(f"http://127.0.0.1:{port}")
        self._log = Path(tempfile.mkstemp(prefix="headrace-serving-", suffix=".log")[1])
        with self._log.open("wb") as log:
            # The key of a server that the user runs is none of this one's.
            environment = {name: value for name, value in os.environ.items() if name != "HEADRACE_API_KEY"}
            # A group of its own: the keyboard's interrupt is for the benchmark, which ends the server itself.
            self._process = subprocess.Popen(
                [*command, "--port", str(port)], stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env=environment,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        return self._process.pid

    def wait(self) -> None:
        """Returns when it is ready. Raises `ServiceError` where it ends before, or takes too long."""
        until = time.monotonic() + _START_S
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise ServiceError(f"{self.name} ended with status {self._process.returncode}", self._last_words())
            try:
                if httpx.get(self.target.url + self._ready, trust_env=False, timeout=5.0).is_success:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(_LOOK_S)
        raise ServiceError(f"{self.name} was not ready after {_START_S:g} s", self._last_words())

    def stop(self) -> None:
        """Asks it to end, and ends it where it does not."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.unlink(missing_ok=True)

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "Its last words: " + "\n".join(lines[-_LOG_LINES:])


def headrace_server(model: str, device: str) -> ServerProcess:
    """`headrace serve`, with a queue that takes whatever the benchmark sends, as the peer's does."""
    options = ["--device", device, "--queue", "100000", "--max-wait", "100000"]
    return ServerProcess("headrace", [sys.executable, "-m", "headrace", "serve", model, *options], "/readyz")


def peer_server(model: str, device: str) -> ServerProcess:
    """The plain diffusers server."""
    command = [sys.executable, "-m", "headrace.benchmarks._serving.peer", model, "--device", device]
    return ServerProcess("diffusers", command)


@contextmanager
def told_to_end() -> Iterator[None]:
    """Where this process is told to end (SIGTERM) inside, it does so by an exception, so that servers end with it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, frame: object) -> None:
    sys.exit(128 + number)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
