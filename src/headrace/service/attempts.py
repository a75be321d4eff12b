"""One process of the engine after another: what each is given, what it says, and what follows when it dies."""

from __future__ import annotations

import logging
import threading
import time

from headrace.errors import HeadraceError, PoisonError, ServiceError
from headrace.service import messages as said
from headrace.service.deaths import from_outside, memory_killings
from headrace.service.held import Held
from headrace.service.house import House
from headrace.service.model_card import ModelCard
from headrace.service.process import EngineProcess, in_words
from headrace.service.pulse import Pulse
from headrace.service.quarantine import Quarantine
from headrace.service.restarts import Restarts
from headrace.service.settings import ServiceSettings
from headrace.service.standby import Standby
from headrace.serving.latency_table import LatencyTable

_log = logging.getLogger(__name__)
_SETTLED_S = 10.0  # a process that dies with nothing to do before this is as good as one that did not start


class Attempts:
    """Not safe by itself: messages come in threads of the processes, and take the owner's lock `changed`.

    Attributes:
        card: of the model, once it was loaded.
        policy: in words.
        problem: why there will be no other process.
        trouble: what is wrong now, in words.
        restarts: processes after the first one that was ready.
        max_rows, memory_bytes: of the present process.
    """

    def __init__(self, settings: ServiceSettings, house: House, changed: threading.Condition) -> None:
        self._settings = settings
        self._house = house
        self._changed = changed
        self._quarantine = Quarantine(settings.kills)
        self._restarts = Restarts(settings.failed_starts, settings.backoff_s)
        self._process: EngineProcess | None = None
        self._standby = Standby(
            lambda: EngineProcess(settings.program, self._on_message, self._on_end), settings.standby
        )
        self._ready = False
        self._due = 0.0  # when the next process is to be started
        self._began = 0.0  # when the present one was started, and later when it was ready
        self._killings = 0
        self._pulse = Pulse(settings.start_s, settings.stall_s)
        self._start_s = 0.0  # that the last start took
        self._sent = 0
        self._table: LatencyTable | None = None
        self.card: ModelCard | None = None
        self.policy = ""
        self.problem: ServiceError | HeadraceError | None = None
        self.trouble = ""
        self.restarts = 0
        self.max_rows = 0
        self.memory_bytes = 0

    @property
    def state(self) -> str:
        """As in `Status`."""
        if self.problem is not None:
            return "failed"
        if self._ready:
            return "ready"
        return "starting" if self.card is None else "restarting"

    @property
    def back_in_s(self) -> float:
        """Seconds until a process is ready, about."""
        if self._ready:
            return 0.0
        began = self._due if self._process is None else self._began
        return max(0.0, began + self._start_s - time.monotonic())

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Of the present process, where there is one."""
        return () if self._process is None else (self._process.number,)

    # -- the process --------------------------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Starts a process where one is due, and ends one that hangs. By the thread that outlives all processes."""
        if self.problem is not None:
            return
        if self._process is None:
            if now >= self._due:
                self._start(now)
        elif self._pulse.hangs(now):
            self._process.kill(hung=True)
        elif self._ready:
            self._standby.look(now)

    def _start(self, now: float) -> None:
        self._ready = False
        self._began = now
        self._pulse.began(now)
        self._killings = memory_killings()
        self._process = self._standby.take()
        self._process.send(said.Begin(self._settings, self._table))

    def stop(self) -> None:
        """Ends the process. Without the lock."""
        process, ready = self._process, self._ready
        self._process, self._ready = None, False
        self._standby.stop()
        if process is not None:
            if not ready:
                process.kill()  # it has nothing to end well
            process.stop()

    def _on_end(self, process: EngineProcess, status: int) -> None:
        with self._changed:
            self._standby.ended(process)
            if process is not self._process or process.stopped:
                return
            self._process = None
            outside = from_outside(status, process.hung, memory_killings() - self._killings)
            self._explain(process, status)
            self._blame(outside)
            for held in self._house.held:
                held.out()
            self._ready = False
            self.memory_bytes = 0
            self.restarts += self.card is not None
            self._due = time.monotonic() + self._restarts.wait_s
            if self._restarts.exhausted and self.problem is None:
                self.give_up(ServiceError(f"the engine's process does not start: {self.trouble}", "See its log"))
            self._changed.notify_all()

    def _explain(self, process: EngineProcess, status: int) -> None:
        told = "hung and was ended" if process.hung else in_words(status)
        self.trouble = f"the engine's process {told}"
        _log.warning("%s (process %d)", self.trouble, process.number)

    def _blame(self, outside: bool) -> None:
        """Finds who ran when the process died; fails the poison."""
        running = self._house.running(checked=not outside)
        if running:
            poison = self._quarantine.killed(running) if outside else self._quarantine.crashed(running)
            for ticket in poison:
                self._poison(ticket)
        if self._ready and running and not outside:
            self._restarts.went_well()
        elif not self._ready or (not running and time.monotonic() - self._began < _SETTLED_S):
            self._restarts.failed(outside)

    def _poison(self, ticket: str) -> None:
        held = self._house.get(ticket)
        if held is not None:
            error = PoisonError(
                f"the engine's process died whenever it worked on this: {self.trouble}", "Ask for something else"
            )
            self.end(held, error)

    def give_up(self, problem: HeadraceError) -> None:
        """There will be no other process: everything that is held fails."""
        self.problem = problem
        self._house.fail_all(ServiceError(f"the service ended: {problem.problem}", "Ask again when it is back"))
        self._changed.notify_all()

    # -- wishes -------------------------------------------------------------------------------------------------------

    def hand_out(self) -> None:
        """Gives the process what it may work on now: everything, or one suspect alone."""
        process = self._process
        if process is None or not self._ready:
            return
        alone = self._quarantine.alone
        if alone is None:
            for held in self._house.held:
                if not held.sent:
                    self._send(process, held, self._settings.checkpoint_rows)
        elif not any(held.sent for held in self._house.held):
            suspect = self._house.get(alone)
            if suspect is not None:
                self._send(process, suspect, checkpoint_rows=1)

    def _send(self, process: EngineProcess, held: Held, checkpoint_rows: int) -> None:
        self._sent += 1
        held.sent, held.order = True, self._sent
        held.attempts += 1
        process.send(
            said.Submit(
                held.ticket, held.wish, held.submitted, held.deadline, held.snapshot, held.previews, checkpoint_rows
            )
        )

    def cancel(self, ticket: str) -> bool:
        """Drops a wish. False where it is over or unknown."""
        held = self._house.get(ticket)
        if held is None:
            return False
        self._house.forget(held)
        self._leave(held)
        return True

    def end(self, held: Held, error: HeadraceError) -> None:
        """Fails a wish, wherever it is."""
        self._house.fail(held, error)
        self._leave(held)

    def expire(self, now: float) -> None:
        """Fails wishes whose time is over."""
        for held, error in self._house.expired(now):
            self.end(held, error)

    def _leave(self, held: Held) -> None:
        """A wish is over; where the process still has it, it drops it."""
        self._quarantine.over(held.ticket)
        if held.sent and self._process is not None:
            self._process.send(said.Drop(held.ticket))
        self.hand_out()
        if self._house.empty:
            self._changed.notify_all()

    # -- messages -----------------------------------------------------------------------------------------------------

    def _on_message(self, process: EngineProcess, message: said.FromEngine) -> None:
        with self._changed:
            if process is not self._process:
                return
            self._pulse.heard = now = time.monotonic()
            match message:
                case said.Ready():
                    self._on_ready(message, now)
                case said.Broken(error):
                    self._on_broken(error)
                case said.Beat():
                    self._pulse.beat = message
                    self.memory_bytes, self.max_rows = message.memory_bytes, message.max_rows
                case said.Turned(seen):
                    self._restarts.went_well()
                    self._pulse.turned(seen.seconds)
                    self._house.turned(seen)
                case said.Entered(tickets):
                    self._house.enter(tickets, now)
                case _:
                    held = self._house.get(message.ticket)
                    if held is not None:
                        self._on_wish(held, message)

    def _on_ready(self, ready: said.Ready, now: float) -> None:
        self._ready = True
        self._pulse.ready()
        self.card, self.policy, self._table = ready.card, ready.policy, ready.table
        self.trouble = ""
        self._start_s, self._began = now - self._began, now
        self._house.outlook.ready(ready.card, ready.table)
        self.hand_out()
        self._changed.notify_all()

    def _on_broken(self, error: HeadraceError) -> None:
        if self.card is None:
            self.give_up(error)  # it never worked, and will not without a change
        self.trouble = str(error)

    def _on_wish(
        self, held: Held, message: said.Planned | said.Shown | said.Saved | said.Made | said.Fell | said.Dropped
    ) -> None:
        match message:
            case said.Planned():
                self._house.accept(held, message)
            case said.Shown():
                self._house.show(held, message)
            case said.Saved(ticket, row, snapshot):
                self._house.save(held, row, snapshot)
                if self._quarantine.moved(ticket, row):
                    self._park(held)
            case said.Made():
                self._house.finish(held, message)
                held.sent = False
                self._leave(held)
            case said.Fell(_, error):
                self._house.fail(held, error)
                held.sent = False
                self._leave(held)
            case said.Dropped():
                held.out()
                self.hand_out()

    def _park(self, held: Held) -> None:
        """A suspect is cleared. It makes room where another one is to run alone, and else goes on in company."""
        if self._quarantine.alone is None:
            self.hand_out()
        elif self._process is not None:
            self._process.send(said.Drop(held.ticket))
