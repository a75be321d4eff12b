"""Works on batches beside everything else, for as long as the server runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from headrace.api.batches.answer import failed
from headrace.api.batches.making import PutOffError, asked_for, make
from headrace.api.batches.records import BatchRecord, LineRecord
from headrace.api.batches.shelf import Shelf
from headrace.api.batches.validation import checked, text_of, validate
from headrace.api.context import ApiContext
from headrace.api.errors import ApiError, api_error
from headrace.api.generation import Generation, generation
from headrace.api.schemas import ImageRequest
from headrace.errors import HeadraceError, NotReadyError, OutputError

T = TypeVar("T")
LOOK_S = 0.1  # while lines wait for room
IDLE_S = 2.0
TIDY_S = 60.0
FULL_S = 30.0  # until another try where nothing can be written
BROKEN_S = 5.0


@dataclass
class Work:
    """Lines of one batch that are being made, by number; all before `next` were taken or have answers."""

    batch: BatchRecord
    tasks: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    next: int = 1


class Runner:
    """Takes lines while nobody else waits for the engine, a few at a time, of each batch in turn.

    What is being made when the server ends, however it ends, waits in the database and is begun again.
    """

    def __init__(self, context: ApiContext, shelf: Shelf) -> None:
        self._context = context
        self._shelf = shelf
        self._work: dict[str, Work] = {}
        self._pictures = 0
        self._not_before = 0.0
        self._tidied = -TIDY_S
        self._woken = asyncio.Event()
        self._turn = 0
        self._reading: tuple[str, asyncio.Task[None]] | None = None

    def wake(self) -> None:
        """Something may have changed: a new batch, a cancelled one."""
        self._woken.set()

    async def run(self) -> None:
        """Until it is cancelled. An error that nobody expected is logged, and tried again after a while."""
        try:
            while True:
                try:
                    held = await self._round()
                except Exception:
                    self._context.log.exception("batches")
                    await asyncio.sleep(BROKEN_S)
                    continue
                await self._wait(LOOK_S if held else IDLE_S)
        finally:
            tasks = [task for work in self._work.values() for task in work.tasks.values()]
            await _ended([*tasks, *([self._reading[1]] if self._reading else [])])

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            pass
        self._woken.clear()

    async def _round(self) -> bool:
        """Brings every batch on; True where lines wait for room."""
        store = self._shelf.batches
        now = self._shelf.now()
        for batch in await self._db(lambda: store.of_status("cancelling", "validating", "in_progress", "finalizing")):
            if self._reading is not None and self._reading[0] == batch.id:
                continue
            if batch.status == "cancelling":
                await self._end(batch, "cancelled")
            elif batch.status == "finalizing":
                await self._db(lambda batch=batch: store.finish(batch.id, "completed"))  # type: ignore[misc]
            elif batch.expires_at <= now:
                await self._end(batch, "expired")
            elif not self._served(batch):
                continue
            elif batch.status == "validating":
                self._read(batch)
            else:
                self._work.setdefault(batch.id, Work(batch))
        if time.monotonic() - self._tidied >= TIDY_S:
            self._tidied = time.monotonic()
            await self._db(self._shelf.forget_expired)
        return await self._take()

    def _served(self, batch: BatchRecord) -> bool:
        """A batch waits for the model that it was submitted to."""
        try:
            return self._context.service.model.name == batch.model
        except NotReadyError:
            return False

    def _read(self, batch: BatchRecord) -> None:
        """Has the lines of a batch read, one batch at a time, while others are worked on."""
        if self._reading is None:
            task = asyncio.create_task(self._validate(batch))
            self._reading = (batch.id, task)
            task.add_done_callback(lambda _: self._was_read())

    def _was_read(self) -> None:
        self._reading = None
        self.wake()

    async def _validate(self, batch: BatchRecord) -> None:
        def check(body: ImageRequest) -> object:
            return generation(body, self._context.service.model, self._context.settings)

        store = self._shelf.batches
        path = self._shelf.files.path(batch.input_file)
        try:
            await self._db(lambda: validate(path, batch, store, self._shelf.limits, check))
        except Exception as error:
            self._context.log.exception("batches", batch=batch.id)
            problem = {"code": "unreadable", "message": f"the file could not be read: {error}", "param": None}
            await self._db(lambda: store.refuse(batch.id, {**problem, "line": None}))

    async def _end(self, batch: BatchRecord, status: str) -> None:
        work = self._work.pop(batch.id, None)
        if work is not None:
            await _ended(list(work.tasks.values()))
        await self._db(lambda: self._shelf.batches.finish(batch.id, status))

    async def _take(self) -> bool:
        """Begins lines, of each batch in turn, until there is no room; True where some are left."""
        waiting = list(self._work.values())
        waiting = waiting[self._turn % len(waiting) :] + waiting[: self._turn % len(waiting)] if waiting else []
        while waiting:
            if not self._room():
                return True
            work = waiting.pop(0)
            line = await self._db(lambda work=work: self._next(work))  # type: ignore[misc]
            if line is None:
                await self._finalize(work)
                continue
            work.next = line.number + 1
            self._turn += 1
            if await self._begin(work, line):
                waiting.append(work)
        return False

    def _next(self, work: Work) -> LineRecord | None:
        """A line that waits and is not being made."""
        behind = work.next - 1
        while (line := self._shelf.batches.waiting(work.batch.id, behind)) and line.number in work.tasks:
            behind = line.number
        return line

    def _room(self) -> bool:
        """Whether another line may go to the engine: never while somebody else waits for it."""
        if time.monotonic() < self._not_before or self._shelf.space.full:
            return False
        if self._pictures >= self._shelf.limits.in_flight:
            return False
        status = self._context.service.status()
        return status.state in ("ready", "restarting") and status.load.waiting <= self._pictures

    async def _begin(self, work: Work, line: LineRecord) -> bool:
        """False where it was not begun as it is no longer possible: then it has its answer."""
        try:
            asked = await self._db(lambda: self._asked(work.batch, line))
        except (ApiError, HeadraceError) as error:
            said = error if isinstance(error, ApiError) else api_error(error)
            await self._db(lambda: self._shelf.batches.answer(failed(line, said)))
            return True
        except PutOffError as error:
            self._put_off(work, line, error.seconds)
            return False
        count = len(asked.wishes)
        self._pictures += count
        task = asyncio.create_task(self._make(work, line, asked))
        work.tasks[line.number] = task
        task.add_done_callback(lambda _: self._over(work, line, count))
        return True

    def _asked(self, batch: BatchRecord, line: LineRecord) -> Generation:
        try:
            text = text_of(self._shelf.files.path(batch.input_file), line)
        except OSError as error:
            raise ApiError(500, f"the line could not be read again: {error}", "unreadable") from None
        _, body = checked(text, batch.endpoint, lambda body: None)
        return asked_for(body, line, self._context)

    async def _make(self, work: Work, line: LineRecord, asked: Generation) -> None:
        folder = self._shelf.pictures(work.batch.id)
        try:
            done, rows = await make(line, asked, work.batch, self._context, folder)
        except PutOffError as error:
            self._put_off(work, line, error.seconds)
            return
        except OutputError as error:
            self._context.log.error("batches wait for room on the disk", error=str(error), batch=work.batch.id)
            self._put_off(work, line, FULL_S)
            return
        except Exception:
            self._context.log.exception("batches", batch=work.batch.id, line=line.number)
            message = "something went wrong here that should not have"
            done, rows = failed(line, ApiError(500, message, "internal_error")), 0
        await self._db(lambda: self._shelf.batches.answer(done, (0, rows)))

    def _over(self, work: Work, line: LineRecord, count: int) -> None:
        self._pictures -= count
        work.tasks.pop(line.number, None)
        self.wake()

    def _put_off(self, work: Work, line: LineRecord, seconds: float) -> None:
        work.next = min(work.next, line.number)
        self._not_before = max(self._not_before, time.monotonic() + seconds)

    async def _finalize(self, work: Work) -> None:
        """Ends a batch whose lines all have answers."""
        if work.tasks or self._work.get(work.batch.id) is not work:
            return
        store = self._shelf.batches
        if await self._db(lambda: store.waiting(work.batch.id, 0)) is not None:
            work.next = 1
            self.wake()
            return
        del self._work[work.batch.id]
        await self._db(lambda: store.finalize(work.batch.id))
        await self._db(lambda: store.finish(work.batch.id, "completed"))

    async def _db(self, work: Callable[[], T]) -> T:
        """In a thread: the event loop waits for no disk."""
        return await asyncio.to_thread(work)


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    """Cancels them, and waits until the engine has been told."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
