"""The engine under a policy, on a real clock: requests come in at any time from any thread."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType

from headrace.engine import Engine, Order, Result, RoundReport
from headrace.engine.previews import Preview
from headrace.engine.snapshot import Snapshot
from headrace.errors import HeadraceError, PlanError, ServingError
from headrace.plan import Plan
from headrace.request import Request
from headrace.serving.expectation import expected
from headrace.serving.served import Entry, Pending, Previews, Served, task_of
from headrace.serving.state import Policy, Round, State, Task
from headrace.techniques.guidance.schedule import skip

_POLL_S = 0.002  # how often chunks in flight are asked for while there is nothing else to do
_LOOK_S = 60.0  # a clock that stands still is looked at again


class Loop:
    """Asks a policy for round after round and has the engine run it, in a thread of its own.

    `start` and `stop` are its life; as a context manager it is started, and drained at the end. The engine is the
    loop's alone meanwhile; whoever made it closes it. While a round runs, the policy works ahead in another thread.
    On a CPU the network is up to 1.8 times as fast in the main thread (`docs/results/scheduler.md`): call `run` there.
    """

    def __init__(
        self,
        engine: Engine,
        policy: Policy,
        clock: Callable[[], float] = time.monotonic,
        watch: Callable[[State, Round, RoundReport], None] | None = None,
    ) -> None:
        """`watch` is told of every round that ran. Raises `ServingError` where the engine has requests already."""
        if engine.busy:
            raise ServingError("the engine has requests that were not submitted here", "Give it to the loop idle")
        self._engine = engine
        self._policy = policy
        self._clock = clock
        self._watch = watch
        self._entries: dict[int, Entry] = {}
        self._came: deque[Entry] = deque()
        self._cancelled: deque[int] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._failure: HeadraceError | None = None
        self._thread = threading.Thread(target=self.run, name="headrace-loop", daemon=True)
        self._helper = ThreadPoolExecutor(1, "headrace-policy")
        self._prepared: Future[None] | None = None
        engine.on_result = self._finish
        engine.on_preview = self._preview

    def submit(
        self,
        request: Request,
        *,
        priority: int = 0,
        deadline: float | None = None,
        plan: Plan | None = None,
        acceleration: str | None = None,
        snapshot: Snapshot | None = None,
        previews: Previews | None = None,
    ) -> Pending:
        """Has a request served; callable from any thread. Cancelling the future drops the request.

        `deadline` is absolute, on the loop's clock; `plan` replaces its own; with a `snapshot` the request goes
        on from there, and rows that were skipped before count as skipped; `previews` are told before the picture is
        there. Raises what `Engine.prepare` raises, and `ServingError` for a deadline that is no time, or where the loop
        was stopped or has failed. The future raises a `ServingError` where the policy or the engine as a whole fails
        before the request is done.
        """
        if deadline is not None and not math.isfinite(deadline):
            raise ServingError(f"deadline is {deadline}", "Give seconds on the loop's clock, or leave it out")
        arrived = self._clock()
        count = 0 if previews is None else previews.count
        job = self._engine.prepare(request, plan, acceleration=acceleration, snapshot=snapshot, previews=count)
        begun = job.plan if snapshot is None else plan or self._engine.plan(request, acceleration)
        task = task_of(job, self._engine.pipeline.size(job.request), arrived, begun)
        task = replace(task, priority=priority, deadline=deadline)
        entry = Entry(job, task, Pending(job.number, begun), previews=previews)
        with self._changed:
            if self._closed:
                raise ServingError("the loop was stopped", "Start another one")
            if self._failure is not None:
                raise self._failure
            self._came.append(entry)
            self._changed.notify()
        entry.future.add_done_callback(lambda future: self._drop(job.number) if future.cancelled() else None)
        return entry.future

    def snapshot(self, number: int) -> Snapshot | None:
        """As `Engine.snapshot`, for who drives the loop: between turns, or in `watch`."""
        return self._engine.snapshot(number)

    def _drop(self, number: int) -> None:
        with self._changed:
            self._cancelled.append(number)
            self._changed.notify()

    def start(self) -> None:
        """Begins to serve. Once."""
        self._thread.start()

    @property
    def failure(self) -> HeadraceError | None:
        """What every request failed with, where the policy or the engine as a whole did."""
        return self._failure

    def close(self, drain: bool = True) -> None:
        """Takes no more requests: `run` ends when those that are there are done; without `drain`, they fail instead."""
        with self._changed:
            self._closed = True
            if not drain and self._failure is None:
                self._failure = ServingError("the loop was stopped before the request was done", "Submit it again")
            self._changed.notify()

    def stop(self, drain: bool = True) -> None:
        """As `close`, and returns when all is over. Not while another thread is in `run`."""
        self.close(drain)
        if self._thread.ident is not None:
            self._thread.join()
        self._give_up()
        self._helper.shutdown()
        self._engine.on_result = None
        self._engine.on_preview = None

    def __enter__(self) -> Loop:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop(drain=error is None)

    def run(self) -> None:
        """Serves in the calling thread, in place of `start`, until another one calls `close` or everything failed."""
        while self._failure is None:
            until = self.turn()
            with self._changed:
                # Whatever came in meanwhile has not been looked at.
                if until is None or self._came or self._cancelled or self._failure is not None:
                    continue
                if self._closed and not self._entries:
                    return
                self._changed.wait(None if math.isinf(until) else min(max(0.0, until - self._clock()), _LOOK_S))
        self._give_up()

    def turn(self) -> float | None:
        """One turn of the loop's thread, for who drives it without one: asks the policy and runs the round.

        Returns when to look again: None for at once, infinite where only an arrival changes anything. What goes wrong
        fails every request (see `submit`).
        """
        try:
            self._take_in()
            return self._next_round() if self._entries else math.inf
        except Exception as error:
            self._failure = _failure(self._policy.name, error)
            self._give_up()
            return math.inf

    def _next_round(self) -> float | None:
        engine = self._engine
        if self._prepared is not None:
            self._prepared.result()  # a policy is asked by one thread at a time
        state = self._state()
        decided = self._policy.next(state)
        if decided.idle and not decided.admit:
            return self._wait(state, decided)
        order = self._order(state, decided)
        self._prepared = self._helper.submit(self._policy.prepare, expected(state, decided))
        report = engine.step(order)
        self._record(report, state.now)
        if self._watch is not None:
            self._watch(state, decided, report)
        return self._moved(report)

    def _take_in(self) -> None:
        while self._came:
            entry = self._came.popleft()
            self._entries[entry.task.number] = entry
            self._engine.enqueue(entry.job)
        while self._cancelled:
            number = self._cancelled.popleft()
            if self._entries.pop(number, None) is not None:
                self._engine.cancel(number)

    def _state(self) -> State:
        engine, tasks = self._engine, self._entries
        engine.poll()
        for number in engine.resident:
            tasks[number].task = self._seen(tasks[number].task)
        waiting, denoising, decoding = (
            [tasks[number].task for number in numbers]
            for numbers in (sorted(engine.waiting), engine.denoising, engine.decoding)
        )
        return State(self._clock(), waiting, denoising, decoding, engine.in_flight, engine.settings.slots)

    def _seen(self, task: Task) -> Task:
        at = self._engine.progress(task.number)
        return replace(task, row=at.row, guided=at.guided, chunk=at.chunk, chunks=at.chunks)

    def _wait(self, state: State, decided: Round) -> float:
        """When to look again after a round in which nothing is to be done."""
        if decided.wait_until is not None and decided.wait_until <= state.now:
            raise ServingError(f"it waits until {decided.wait_until}, which is not after {state.now}")
        until = math.inf if decided.wait_until is None else decided.wait_until
        if state.in_flight:
            return min(until, state.now + _POLL_S)
        if decided.wait_until is None:
            raise ServingError(
                f"it leaves {len(self._entries)} requests without a round", "Name rows or chunks, or wait_until"
            )
        return until

    def _order(self, state: State, decided: Round) -> Order:
        """The round in the engine's words; plans of rows that are skipped are rewritten before it."""
        running = {task.number for task in state.denoising} | set(decided.admit)
        for number in decided.skip & set(decided.rows) & running:
            self._skip(number)
        rows = frozenset(decided.rows) & running
        return Order(admit=decided.admit, rows=rows, decode=frozenset(decided.decode), chunks=decided.chunks)

    def _skip(self, number: int) -> None:
        entry, at = self._entries[number], self._engine.progress(number)
        if not at.guided:
            return
        try:
            self._engine.replan(number, skip(at.plan, [at.row]))
        except PlanError:
            return  # later rows reuse what both branches of this one compute: it stays as it is
        first = at.row / at.rows if entry.task.first_skip is None else entry.task.first_skip
        entry.task = replace(entry.task, skips=entry.task.skips + 1, first_skip=first)

    def _record(self, report: RoundReport, began: float) -> None:
        now = self._clock()
        for number in report.admitted:
            if number in self._entries:
                self._entries[number].started = began
        for number in self._engine.decoding:
            if self._entries[number].denoised is None:
                self._entries[number].denoised = now

    def _moved(self, report: RoundReport) -> float | None:
        if report.rows or report.chunks or report.chunks_ended or report.admitted or report.finished:
            return None
        return self._clock() + _POLL_S  # who is to be admitted finds no room, or is not encoded yet

    def _finish(self, result: Result) -> None:
        entry = self._entries.pop(result.number, None)
        if entry is None or not entry.future.set_running_or_notify_cancel():
            return
        entry.future.set_result(Served(result, entry.task, entry.started, entry.denoised, self._clock()))

    def _preview(self, preview: Preview) -> None:
        entry = self._entries.get(preview.number)
        if entry is not None:
            entry.preview(preview)

    def _give_up(self) -> None:
        """Fails everything that is left, where the loop failed or was stopped without draining."""
        with self._changed:
            failure = self._failure
            if failure is None:
                return
            left = [*self._entries.values(), *self._came]
            self._came.clear()
        for entry in left:
            self._engine.cancel(entry.task.number)
            self._entries.pop(entry.task.number, None)
            if entry.future.set_running_or_notify_cancel():
                entry.future.set_exception(failure)


def _failure(policy: str, error: Exception) -> ServingError:
    failure = ServingError(f"serving under policy {policy!r} failed: {error}", "Start another loop")
    failure.__cause__ = error
    return failure
