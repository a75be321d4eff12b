"""The engine's process, as its supervisor has it."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

from headrace.service.messages import FromEngine, Stop, ToEngine
from headrace.service.wire import Wire

_LAST_S = 5.0  # a process whose socket is closed has so long to end


class EngineProcess:
    """A Python process of its own that runs the module `program`; it waits for `Begin`.

    It is started afresh, not forked and not by `multiprocessing`: that would import the caller's main module once
    more, and so needs one that is safe to import. It shares nothing but a socket pair; when this side is closed, it
    ends by itself.
    """

    def __init__(
        self,
        program: str,
        heard: Callable[[EngineProcess, FromEngine], None],
        ended: Callable[[EngineProcess, int], None],
    ) -> None:
        """Starts it. `heard` is called with each message and then `ended`, once, with the exit status (-9: signal 9).

        Both are called in a thread of this process's own. To be made by a thread that outlives it: on Linux it ends
        with that thread.
        """
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", program, str(theirs.fileno())]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with theirs:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, env=environment, pass_fds=(theirs.fileno(),)
            )
        self._wire = Wire(Connection(ours.detach()))
        self._outbox: queue.SimpleQueue[ToEngine | None] = queue.SimpleQueue()
        self._heard, self._ended = heard, ended
        self.hung = self.stopped = False
        self._threads = [
            threading.Thread(target=job, name=f"headrace-{job.__name__.strip('_')}", daemon=True)
            for job in (self._write, self._read)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def number(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, message: ToEngine) -> None:
        """Never waits, and says nothing where the process is gone: `ended` will."""
        self._outbox.put(message)

    def kill(self, hung: bool = False) -> None:
        """Has it end at once. `hung`: because it was found so."""
        self.hung = self.hung or hung
        self._process.kill()

    def stop(self, wait_s: float = _LAST_S) -> None:
        """Has it end, and returns when it did."""
        self.stopped = True
        self.send(Stop())
        try:
            self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.wait()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(_LAST_S)

    def _write(self) -> None:
        while (message := self._outbox.get()) is not None:
            try:
                self._wire.send(message)
            except OSError:
                return

    def _read(self) -> None:
        while True:
            try:
                message = self._wire.receive()
            except (EOFError, OSError):
                break
            self._heard(self, message)
        try:
            status = self._process.wait(_LAST_S)
        except subprocess.TimeoutExpired:  # it closed its socket and stays
            self._process.kill()
            status = self._process.wait()
        self._outbox.put(None)
        self._wire.close()
        self._ended(self, status)


def in_words(status: int) -> str:
    """An exit status for people."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
