"""Many engines as one service."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import asdict, replace

from headrace.errors import HeadraceError, NotReadyError, ServiceError, StoppingError
from headrace.service.cluster.carrier import Carrier
from headrace.service.cluster.claim import Claim
from headrace.service.cluster.fleet import Fleet
from headrace.service.cluster.forecast import choose, row_seconds, rows_of
from headrace.service.cluster.messages import ReplicaLostError, ReplicaRetiredError, Report
from headrace.service.cluster.refusal import refuse
from headrace.service.cluster.roster import Roster, round_here
from headrace.service.cluster.tally import Tally
from headrace.service.events import Event, Failed, Finished
from headrace.service.model_card import ModelCard
from headrace.service.service import Listener
from headrace.service.status import RoundSeen, Status
from headrace.service.wish import Wish

_REPORTS, _PATIENCE_S = 4, 1.0  # of a replica at most between looks for new ones; what one waits for news


class ClusterService:
    """A `Service` whose engines are the replicas of a fleet.

    Every wish is given at once to the replica that should be done with it first (`forecast.choose`), as a call that
    streams what becomes of it. Where the call breaks, the replica is lost: the wish is given to another one, its
    listener hears nothing that it has heard before, and as a wish is its request and seed, the picture is the same.
    A wish stays here from `submit` until its end, so that nothing accepted is lost with a replica.

    A thread of its own starts the fleet and runs the event loop that calls replicas.
    """

    def __init__(self, fleet: Fleet, queue: int = 256, max_wait_s: float = 120.0, look_s: float = 1.0) -> None:
        """`queue`: wishes that are held at once at most, for every replica. `max_wait_s`: more is refused.

        New replicas are looked for every `look_s` seconds.
        """
        self._fleet = fleet
        self._limits = (queue, max_wait_s)
        self._look_s = look_s
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._roster = Roster()
        self._gone: set[str] = set()
        self._claims: dict[str, Claim] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._followers: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._watchers: list[Callable[[RoundSeen], None]] = []
        self._card: ModelCard | None = None
        self._error: HeadraceError | None = None
        self._closing = ""  # "draining" or "stopped" once it is
        self._cut = False  # whether wishes were failed in the end
        self._tally = Tally()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._carrier = Carrier(fleet, self._place, self._hear, self._lost)

    # What callers ask

    @property
    def model(self) -> ModelCard:
        """As `Service.model`."""
        with self._lock:
            if self._card is None:
                problem = str(self._error) if self._error else "no replica has loaded the model yet"
                raise NotReadyError(problem, "" if self._error else "Ask again in some seconds")
            return self._card

    def submit(self, wish: Wish, listen: Listener) -> str:
        """As `Service.submit`. What only an engine can refuse is heard as `Failed` before `Accepted`."""
        with self._lock:
            if self._closing:
                raise StoppingError("the service takes no more requests: it stops", "Ask again in a minute")
            if self._error is not None:
                raise self._error
            rows, now = rows_of(wish, self.model), time.monotonic()
            refuse(wish, self.model, self._roster.standings.values(), len(self._claims), self._limits, now)
            claim = Claim(f"w{next(self._numbers)}", wish, listen, now, rows)
            self._claims[claim.ticket] = claim
            self._place(claim, ())
            self._soon(self._carry, claim)
        return claim.ticket

    def cancel(self, ticket: str) -> bool:
        """As `Service.cancel`."""
        with self._lock:
            if self._claims.pop(ticket, None) is None:
                return False
            self._tally.cancelled += 1
            self._over(ticket)
            self._soon(self._drop, ticket)
        return True

    def status(self) -> Status:
        """As `Service.status`: all replicas as one."""
        with self._lock:
            now, row_s = time.monotonic(), row_seconds(self._roster.standings.values())
            held = [one.rows for one in self._claims.values() if one.replica is None]
            state = self._closing or ("failed" if self._error else self._roster.state(self._card is not None))
            status = self._roster.status(state, held, now, row_s)
            problem = str(self._error) if self._error else status.problem
            return replace(status, **asdict(self._tally), problem=problem)

    def watch(self, tell: Callable[[RoundSeen], None]) -> Callable[[], None]:
        """As `Service.watch`: rounds of all replicas, each under its replica's number."""
        with self._lock:
            self._watchers.append(tell)

        def leave() -> None:
            with self._lock, suppress(ValueError):
                self._watchers.remove(tell)

        return leave

    # Start and stop

    def start(self, wait_s: float | None = None) -> None:
        """As `Service.start`. Ready is the cluster with its first replica."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="headrace-cluster", daemon=True)
                self._thread.start()
            if wait_s is None:
                return
            self._changed.wait_for(lambda: self._card is not None or self._error is not None, wait_s)
            if self._error is not None:
                raise self._error
            if self._card is None:
                raise ServiceError(f"no replica was ready within {wait_s:g} s", "Give more time, or see Ray's logs")

    def stop(self, drain_s: float = 0.0) -> bool:
        """As `Service.stop`."""
        with self._lock:
            self._closing = self._closing or "draining"
            done = self._changed.wait_for(lambda: not self._claims, drain_s) and not self._cut
            if self._end is not None:
                self._soon(self._end.set)
        if self._thread is not None:
            self._thread.join()
        self._closing = "stopped"
        return done

    def _run(self) -> None:
        try:
            self._fleet.start()
            asyncio.run(self._live())
        except HeadraceError as error:
            self._error = error
        except Exception as error:  # a defect: whoever waits must hear of it all the same
            self._error = ServiceError(f"the cluster's loop ended: {error!r}", "Start the server again")
            raise
        finally:
            self._fail_all(self._error or StoppingError("the service stopped before it was done", "Ask again"))
            self._fleet.stop()

    def _fail_all(self, error: HeadraceError) -> None:
        with self._lock:
            self._loop = None
            left = list(self._claims.values())
            self._cut = bool(left)
            self._claims.clear()
            self._tally.failed += len(left)
            self._changed.notify_all()
        for claim in left:
            claim.listen(Failed(claim.ticket, error))

    async def _live(self) -> None:
        """Follows replicas until the end; then drops whatever still runs."""
        self._end = asyncio.Event()
        with self._lock:
            if self._closing:
                return
            self._loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            finder = group.create_task(self._find(group))
            await self._end.wait()
            for task in [finder, *self._followers, *self._tasks.values()]:
                task.cancel()

    def _soon(self, call: Callable[..., object], *values: object) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # it has just ended, and what is here is failed at once
                self._loop.call_soon_threadsafe(call, *values)

    # Replicas

    async def _find(self, group: asyncio.TaskGroup) -> None:
        while True:
            for name in await self._fleet.replicas():
                if name not in self._roster.standings and name not in self._gone:
                    with self._lock:
                        self._roster.add(name)
                    follower = group.create_task(self._follow(name))
                    self._followers.add(follower)
                    follower.add_done_callback(self._followers.discard)
            await asyncio.sleep(self._look_s)

    async def _follow(self, name: str) -> None:
        """Takes in a replica's reports until it is there no more."""
        seen = 0
        while name in self._roster.standings:
            try:
                report = await self._fleet.report(name, seen, _PATIENCE_S)
            except ReplicaLostError as error:
                self._lost(name, error)
                return
            seen = report.seen
            self._take_in(name, report)
            await asyncio.sleep(self._look_s / _REPORTS)

    def _take_in(self, name: str, report: Report) -> None:
        with self._lock:
            standing = self._roster.standings.get(name)
            if standing is None:
                return
            standing.heard_of(report, time.monotonic())
            if self._card is None and report.model is not None:
                self._card = report.model
            if self._card is None and self._end is not None:
                reports = [one.report for one in self._roster.standings.values()]
                if all(one is not None and one.error is not None for one in reports):
                    self._error = report.error
                    self._end.set()
            rounds = [round_here(one, standing) for one in report.rounds]
            watchers = list(self._watchers)
            self._changed.notify_all()
        self._carrier.stir()
        for one in rounds:
            for tell in watchers:
                tell(one)

    def _lost(self, name: str, error: ReplicaLostError) -> None:
        with self._lock:
            self._gone.add(name)
            self._roster.remove(name, lost=not isinstance(error, ReplicaRetiredError))

    # Wishes

    def _carry(self, claim: Claim) -> None:
        """On the loop: begins with a wish, unless it was dropped before."""
        assert self._loop is not None
        if claim.ticket in self._claims:
            task = self._loop.create_task(self._carrier.carry(claim))
            self._tasks[claim.ticket] = task
            task.add_done_callback(lambda done: self._carried(claim, done))

    def _carried(self, claim: Claim, task: asyncio.Task[None]) -> None:
        self._tasks.pop(claim.ticket, None)
        if not task.cancelled() and task.exception() is not None:  # a defect; it must not leave anyone waiting
            error = ServiceError(f"the cluster lost its way: {task.exception()!r}", "Ask again")
            self._hear(claim, Failed(claim.ticket, error))

    def _drop(self, ticket: str) -> None:
        task = self._tasks.get(ticket)
        if task is not None:
            task.cancel()

    def _place(self, claim: Claim, barred: Collection[str]) -> str | None:
        """Gives a claim to the replica that should be done with it first; None where none takes it."""
        with self._lock:
            best = choose(self._roster.standings.values(), claim.rows, time.monotonic(), barred)
            self._roster.forget(claim.ticket)
            claim.replica = best[0].name if best else None
            if best is not None:
                best[0].sent[claim.ticket] = claim.rows
            return claim.replica

    def _hear(self, claim: Claim, event: Event) -> bool:
        """Hands an event to whoever asked for it; returns whether the claim goes on."""
        ended = isinstance(event, Finished | Failed)
        with self._lock:
            if claim.ticket not in self._claims:
                return False
            standing = self._roster.standings.get(claim.replica or "")
            heard = claim.hears(event, (standing.offset if standing else None) or 0.0)
            self._tally.count(heard)
            if standing is not None and claim.ticket in standing.sent:
                standing.sent[claim.ticket] = claim.rows
            if ended:
                del self._claims[claim.ticket]
                self._over(claim.ticket)
        if heard is not None:
            claim.listen(heard)
        return not ended

    def _over(self, ticket: str) -> None:
        self._roster.forget(ticket)
        self._changed.notify_all()
