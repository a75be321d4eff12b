"""From a socket to a running engine: what the process does from its first moment to its last."""

from __future__ import annotations

import faulthandler
import importlib
import os
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from headrace.errors import HeadraceError, ServiceError
from headrace.service.messages import Begin, Broken, Ready
from headrace.service.settings import ServiceSettings
from headrace.service.wire import Wire

if TYPE_CHECKING:
    from headrace.service.worker.room import Room
    from headrace.serving.latency_table import LatencyTable

CANNOT_START = 3  # exit status after `Broken`
FAILED = 4  # exit status where the policy or the engine as a whole failed
_PR_SET_PDEATHSIG = 1


def main(descriptor: int) -> None:
    """Loads what the first message says, serves until told to stop, and leaves with the process that started it."""
    _die_with_parent()
    faulthandler.enable()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they come to the whole group: the supervisor drains, and says stop
    wire = Wire(Connection(descriptor))
    from headrace.service.worker.attendant import Attendant  # most of a start; a process that stands by has done it

    begin = _first(wire)
    room = _open(wire, begin)
    attendant = Attendant(room, begin.settings, wire)
    wire.send(Ready(room.card, room.policy_in_words, room.table))
    failure = attendant.run()
    if failure is not None:
        # Not an answer to any one request: the supervisor has a new process begin them again.
        sys.__excepthook__(type(failure), failure, failure.__traceback__)
    sys.stderr.flush()
    os._exit(0 if failure is None else FAILED)  # no thread that hangs keeps the process


def _first(wire: Wire) -> Begin:
    """What to load; leaves where that is not wanted."""
    try:
        message = wire.receive()
    except (EOFError, OSError):
        os._exit(0)
    if not isinstance(message, Begin):
        os._exit(0)
    return message


def _open(wire: Wire, begin: Begin) -> Room:
    """Builds the room, and leaves where that cannot be or nobody waits for it any more."""
    opened = threading.Event()
    watcher = threading.Thread(target=_leave_if_alone, args=(wire, opened), name="headrace-alone", daemon=True)
    watcher.start()
    try:
        room = _factory(begin.settings)(begin.settings, begin.table)
    except HeadraceError as error:
        wire.send(Broken(error))
        os._exit(CANNOT_START)
    opened.set()
    watcher.join()
    return room


def _leave_if_alone(wire: Wire, opened: threading.Event) -> None:
    """Ends the process where the supervisor closes the socket, or says anything, before the room is open."""
    while not opened.wait(0.2):
        if wire.connection.poll():
            with suppress(EOFError, OSError):
                wire.receive()
            os._exit(0)


def _factory(settings: ServiceSettings) -> RoomFactory:
    module, _, function = settings.factory.partition(":")
    try:
        found: RoomFactory = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ServiceError(
            f"the factory {settings.factory!r} cannot be imported: {error}", "Write module:function"
        ) from error
    return found


def _die_with_parent() -> None:
    """On Linux the kernel ends this process with the thread that started it, even where Python hangs."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if TYPE_CHECKING:
    from collections.abc import Callable

    RoomFactory = Callable[[ServiceSettings, LatencyTable | None], Room]
