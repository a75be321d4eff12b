"""An engine's process without an engine: it starts at once, and does to itself what prompts tell it to.

Run by the supervisor as `python -m fake_engine SOCKET`. A picture is a hash that every row goes on from, so that it is
right only where each row was done once. Words of a prompt: "abort@3" has the process abort in the row after row 3, as
do "hang", "exit", "segv" and "kill" (SIGKILL, as if from outside); "fail" fails alone, "refuse" is refused. Options of
the policy: `round_s`, and `broken` (it does not start), `crash` (it ends at once).
"""

from __future__ import annotations

import hashlib
import os
import pickle
import signal
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np

from headrace.errors import ExecutionError, ModelError, RequestError
from headrace.service.messages import (
    Beat,
    Begin,
    Broken,
    Drop,
    Dropped,
    Entered,
    Fell,
    Made,
    Planned,
    Ready,
    Saved,
    Shown,
    Stop,
    Submit,
    Turned,
)  # fmt: skip
from headrace.service.model_card import AccelerationCard, ModelCard
from headrace.service.status import RoundSeen, RowSeen
from headrace.service.wire import Wire

CARD = ModelCard(
    "fake", "fake", "prompt", 0, True, 4.0, 20, "DDIMScheduler", (16, 16), 8, 1024, solvers=("ddim", "euler"),
    accelerations=(AccelerationCard("fast", "fewer rows"),),
)  # fmt: skip


@dataclass
class Job:
    submit: Submit
    row: int
    state: bytes
    entered: bool = False

    @property
    def rows(self):
        return self.submit.wish.request.steps

    def told(self, word):
        found = [part for part in self.submit.wish.request.prompt.split() if part.startswith(f"{word}@")]
        return bool(found) and int(found[0].split("@")[1]) == self.row


def picture(request, rows=None):
    """What comes of a request."""
    state = str(request.seed).encode()
    for row in range(request.steps if rows is None else rows):
        state = hashlib.sha256(state + str(row).encode()).digest()
    return as_pixels(state)


def as_pixels(state):
    return np.frombuffer(hashlib.sha256(state).digest()[:27], dtype=np.uint8).reshape(3, 3, 3)


class FakeEngine:
    def __init__(self, wire, settings):
        self.wire = wire
        self.settings = settings
        self.round_s = settings.policy_options.get("round_s", 0.002)
        self.jobs = {}
        self.lock = threading.Lock()
        self.moved = time.monotonic()

    def listen(self):
        while True:
            try:
                message = self.wire.receive()
            except (EOFError, OSError):
                os._exit(0)
            with self.lock:
                if isinstance(message, Submit):
                    self.submit(message)
                elif isinstance(message, Drop) and self.jobs.pop(message.ticket, None) is not None:
                    self.wire.send(Dropped(message.ticket))
                elif isinstance(message, Stop):
                    os._exit(0)

    def submit(self, message):
        request = message.wish.request
        if "refuse" in request.prompt:
            self.wire.send(Fell(message.ticket, RequestError("prompt", "refused")))
            return
        row, state = (0, str(request.seed).encode()) if message.snapshot is None else pickle.loads(message.snapshot)
        job = Job(message, row, state)
        if job.told("check"):
            os.abort()
        if not self.jobs:
            self.moved = time.monotonic()
        self.jobs[message.ticket] = job
        self.wire.send(Planned(message.ticket, request.steps, request.steps, (16, 16)))

    def beat(self):
        while True:
            self.wire.send(Beat(time.monotonic(), self.moved, bool(self.jobs), 1000, 32))
            time.sleep(self.settings.beat_s)

    def turn(self):
        self.moved = began = time.monotonic()
        with self.lock:
            inside = sorted(self.jobs.values(), key=lambda job: (not job.entered, -job.submit.wish.priority))
            inside = inside[: self.settings.slots]
            new = [job for job in inside if not job.entered]
            if new:
                self.wire.send(Entered(tuple(job.submit.ticket for job in new)))
                for job in new:
                    job.entered = True
        time.sleep(self.round_s)
        with self.lock:
            inside = [job for job in inside if self.jobs.get(job.submit.ticket) is job]
            for job in inside:
                self.harm(job)
                job.state = hashlib.sha256(job.state + str(job.row).encode()).digest()
                job.row += 1
            self.tell(began, inside)

    def harm(self, job):
        if job.told("abort"):
            os.abort()
        if job.told("exit"):
            os._exit(0)
        if job.told("segv"):
            os.kill(os.getpid(), signal.SIGSEGV)
        if job.told("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if job.told("hang"):
            time.sleep(1000)

    def tell(self, began, inside):
        rows = tuple(RowSeen(job.submit.ticket, job.row, job.rows, 16, 16, True, False) for job in inside)
        done = [job for job in inside if job.row == job.rows]
        seconds = time.monotonic() - began
        waiting = len(self.jobs) - len(inside)
        self.wire.send(
            Turned(RoundSeen(0, began, seconds, seconds, 0.0, rows, (), 1, len(rows), waiting, len(inside), len(done)))
        )
        for job in inside:
            ticket, wish = job.submit.ticket, job.submit.wish
            for index in range(job.submit.previews, wish.previews):
                if job.row == round(job.rows * (index + 1) / (wish.previews + 1)):
                    self.wire.send(Shown(ticket, index, job.row, job.rows, as_pixels(job.state)))
            if job.row == job.rows:
                del self.jobs[ticket]
                if "fail" in wish.request.prompt:
                    self.wire.send(Fell(ticket, ExecutionError("it failed")))
                else:
                    self.wire.send(Made(ticket, (as_pixels(job.state),), began, began, {"steps": job.rows}))
            elif job.row % job.submit.checkpoint_rows == 0:
                self.wire.send(Saved(ticket, job.row, pickle.dumps((job.row, job.state))))


def main(descriptor):
    wire = Wire(Connection(descriptor))
    try:
        begin = wire.receive()
    except (EOFError, OSError):
        return
    if not isinstance(begin, Begin):
        return
    settings = begin.settings
    if settings.policy_options.get("broken"):
        wire.send(Broken(ModelError("there is no such model")))
        os._exit(3)
    if settings.policy_options.get("crash"):
        os._exit(1)
    wire.send(Ready(CARD, "fake", None))
    engine = FakeEngine(wire, settings)
    for job in (engine.listen, engine.beat):
        threading.Thread(target=job, daemon=True).start()
    while True:
        if engine.jobs:
            engine.turn()
        else:
            time.sleep(0.0005)


if __name__ == "__main__":
    main(int(sys.argv[1]))
