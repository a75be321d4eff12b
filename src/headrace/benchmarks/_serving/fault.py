"""The engine's process killed under load, again and again: what is lost, and whether the pictures are the same."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import psutil

from headrace.benchmarks._progress import Show
from headrace.benchmarks._serving.ask import Ask
from headrace.benchmarks._serving.generator import Job, Target
from headrace.benchmarks._serving.outcome import Outcome
from headrace.benchmarks._serving.process import start_load
from headrace.errors import ServiceError

_WORKER = "headrace.service.worker"
_LOOK_S = 0.02
_RESTART_S = 120.0


@dataclass(frozen=True)
class Faulted:
    """A load during which the engine was killed `kills` times."""

    outcomes: list[Outcome]
    kills: int


def engine_of(server: int) -> int | None:
    """Process number of the engine below a server's process; None while there is none."""
    try:
        for child in psutil.Process(server).children(recursive=True):
            if _WORKER in child.cmdline():
                return int(child.pid)
    except psutil.Error:  # it ended as it was looked at
        pass
    return None


def killed_under_load(target: Target, server: int, asked: Sequence[Ask], kills: int, show: Show) -> Faulted:
    """Sends a load and kills the engine `kills` times, evenly spread over the arrivals; each time another process.

    Raises `ServiceError` where the server has no engine to kill, or gets none any more.
    """
    began = time.monotonic()
    running = start_load(Job(target, asked, keep=True), lambda share: show("killed: headrace", share))
    span = max(one.at for one in asked)
    last: int | None = None
    done = 0
    for number in range(kills):
        _sleep_until(began + span * (number + 1) / (kills + 1), running)
        engine = _next_engine(server, last)
        if running.done():
            break
        os.kill(engine, signal.SIGKILL)
        last, done = engine, done + 1
    return Faulted(running.result(), done)


def _sleep_until(moment: float, running: Future[list[Outcome]]) -> None:
    while time.monotonic() < moment and not running.done():
        time.sleep(_LOOK_S)


def _next_engine(server: int, last: int | None) -> int:
    until = time.monotonic() + _RESTART_S
    while time.monotonic() < until:
        engine = engine_of(server)
        if engine is not None and engine != last:
            return engine
        time.sleep(_LOOK_S)
    raise ServiceError(f"the server's process {server} has had no new engine for {_RESTART_S:g} s")
