"""Serves wishes with an engine: one thread takes messages, the main one runs rounds, one gives signs of life."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, replace

from headrace.engine import RoundReport
from headrace.engine.previews import Preview
from headrace.engine.snapshot import Snapshot
from headrace.errors import ArtefactError, HeadraceError, RequestError, SolverError
from headrace.service.messages import (
    Beat,
    Drop,
    Dropped,
    Entered,
    Fell,
    Made,
    Planned,
    Saved,
    Shown,
    Stop,
    Submit,
    Turned,
)
from headrace.service.settings import PLAIN, ServiceSettings
from headrace.service.wire import Wire
from headrace.service.worker.room import Room
from headrace.service.worker.rounds_seen import round_seen
from headrace.serving.loop import Loop
from headrace.serving.served import Previews, Served
from headrace.serving.state import Policy, Round, State


@dataclass
class _Asked:
    """A wish in the loop. `saved` is the row of its newest snapshot."""

    submit: Submit
    future: Future[Served]
    saved: int = 0


class Attendant:
    """Everything is sent by the thread in which it happens, so what was said before a crash is known after it."""

    def __init__(self, room: Room, settings: ServiceSettings, wire: Wire) -> None:
        self._room = room
        self._settings = settings
        self._wire = wire
        self._asked: dict[int, _Asked] = {}  # by the loop's ticket
        self._numbers: dict[str, int] = {}
        self._ended: dict[int, str] = {}  # tickets that were over in this round, which is still to be told
        self._lock = threading.Lock()
        self._moved = time.monotonic()
        self._loop = Loop(room.engine, _Announcing(room.policy, self._before_round), watch=self._after_round)

    def run(self) -> HeadraceError | None:
        """Serves in the calling thread until told to stop (None), or until the policy or the whole engine failed."""
        for job in (self._listen, self._beat):
            threading.Thread(target=job, name=f"headrace-{job.__name__.strip('_')}", daemon=True).start()
        self._loop.run()
        return self._loop.failure

    # -- messages -----------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        while True:
            try:
                message = self._wire.receive()
            except (EOFError, OSError):
                os._exit(0)  # nobody is there to serve
            if isinstance(message, Submit):
                self._submit(message)
            elif isinstance(message, Drop):
                self._drop(message.ticket)
            elif isinstance(message, Stop):
                os._exit(0)

    def _submit(self, asked: Submit) -> None:
        request, engine = asked.wish.request, self._room.engine
        name = asked.wish.acceleration or self._settings.default_acceleration
        acceleration = None if name == PLAIN else name
        snapshot: Snapshot | None = None if asked.snapshot is None else pickle.loads(asked.snapshot)
        try:
            with self._lock:  # no round begins with a wish whose ticket is not known yet
                if not self._asked:
                    self._moved = time.monotonic()
                future = self._loop.submit(
                    request,
                    priority=asked.wish.priority,
                    deadline=asked.deadline,
                    acceleration=acceleration,
                    snapshot=snapshot,
                    previews=self._previews(asked),
                )
                self._asked[future.number] = _Asked(asked, future, 0 if snapshot is None else snapshot.row)
                self._numbers[asked.ticket] = future.number
                guided = int((future.begun.guidance != 1).sum())
                self._wire.send(Planned(asked.ticket, len(future.begun), guided, engine.pipeline.size(request)))
        except HeadraceError as error:
            if self._loop.failure is None:
                self._wire.send(Fell(asked.ticket, _of_the_request(error)))
            return
        future.add_done_callback(lambda done: self._done(asked.ticket, done))

    def _previews(self, asked: Submit) -> Previews | None:
        """What is still to be shown of a wish's previews."""
        if asked.wish.previews <= asked.previews:
            return None
        return Previews(asked.wish.previews, lambda preview: self._show(asked.ticket, preview))

    def _show(self, ticket: str, preview: Preview) -> None:
        self._wire.send(Shown(ticket, preview.index, preview.row, preview.rows, preview.pixels))

    def _drop(self, ticket: str) -> None:
        number = self._numbers.get(ticket)
        asked = None if number is None else self._asked.get(number)
        if asked is not None:
            asked.future.cancel()

    def _done(self, ticket: str, future: Future[Served]) -> None:
        number = self._numbers.pop(ticket, None)
        if number is not None:
            self._ended[number] = ticket
            self._asked.pop(number, None)
        if future.cancelled():
            self._wire.send(Dropped(ticket))
            return
        if future.exception() is not None:
            return  # the loop as a whole failed, and the process ends
        served = future.result()
        result = served.result
        if result.error is not None:
            self._wire.send(Fell(ticket, result.error))
            return
        assert result.pixels is not None
        pictures = (result.pixels, *result.others)
        self._wire.send(Made(ticket, pictures, served.started, served.denoised, dict(result.settings)))

    # -- rounds -------------------------------------------------------------------------------------------------------

    def _before_round(self, decided: Round) -> None:
        self._moved = time.monotonic()
        if any(number not in self._asked for number in decided.admit):
            with self._lock:  # it is just being submitted
                pass
        tickets = self._tickets(decided.admit)
        if tickets:
            self._wire.send(Entered(tuple(tickets.values())))

    def _after_round(self, state: State, decided: Round, report: RoundReport) -> None:
        self._moved = time.monotonic()
        seen = round_seen(self._settings.replica, self._tickets, self._room.policy, state, decided, report)
        self._wire.send(Turned(replace(seen, seconds=time.monotonic() - state.now)))
        self._ended.clear()
        for row in seen.rows:
            self._save(row.ticket, row.row)

    def _save(self, ticket: str, row: int) -> None:
        number = self._numbers.get(ticket)
        asked = None if number is None else self._asked.get(number)
        if number is None or asked is None or row - asked.saved < asked.submit.checkpoint_rows:
            return
        snapshot = self._loop.snapshot(number)
        if snapshot is not None:
            asked.saved = row
            self._wire.send(Saved(ticket, row, pickle.dumps(snapshot, pickle.HIGHEST_PROTOCOL)))

    def _tickets(self, numbers: Iterable[int]) -> dict[int, str]:
        asked = {number: self._asked.get(number) for number in numbers}
        found = {number: self._ended.get(number) if one is None else one.submit.ticket for number, one in asked.items()}
        return {number: ticket for number, ticket in found.items() if ticket is not None}

    # -- signs of life ------------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        while True:
            engine = self._room.engine
            busy = bool(self._asked)
            try:
                self._wire.send(Beat(time.monotonic(), self._moved, busy, _memory_bytes(), engine.max_rows))
            except OSError:
                os._exit(0)
            time.sleep(self._settings.beat_s)


class _Announcing:
    """A policy that says what it decided before that is run."""

    def __init__(self, policy: Policy, tell: Callable[[Round], None]) -> None:
        self.name = policy.name
        self._policy = policy
        self._tell = tell

    def next(self, state: State) -> Round:
        """As `Policy.next`."""
        decided = self._policy.next(state)
        self._tell(decided)
        return decided

    def prepare(self, state: State) -> None:
        """As `Policy.prepare`."""
        self._policy.prepare(state)


def _of_the_request(error: HeadraceError) -> HeadraceError:
    """Errors of planning name the field that they come from."""
    fields = {SolverError: "solver", ArtefactError: "acceleration"}
    field = next((field for kind, field in fields.items() if isinstance(error, kind)), None)
    return error if field is None else RequestError(field, error.problem, error.remedy)


def _memory_bytes() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
