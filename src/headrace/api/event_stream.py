"""Server-sent events that stop being made as soon as nobody listens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")
_COMMENT = b": still here\n\n"


class GoneError(Exception):
    """The caller left."""


async def until_gone(receive: Receive) -> None:
    """Returns when the caller has left. The request's body has been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(work: Awaitable[T], receive: Receive) -> T:
    """What `work` returns or raises; where the caller leaves first, it is cancelled. Raises `GoneError` then."""
    working: asyncio.Future[T] = asyncio.ensure_future(work)
    leaving: asyncio.Future[None] = asyncio.ensure_future(until_gone(receive))
    both: tuple[asyncio.Future[Any], ...] = (working, leaving)
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise GoneError
        return working.result()
    finally:
        await _ended(*both)


def event(kind: str, data: dict[str, Any]) -> bytes:
    """One event; `data` is ASCII on one line."""
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode("ascii")


class EventStream(Response):
    """An answer of events, as `events` yields them; a comment where none came for `keep_alive_s` seconds.

    `events` is closed when the caller leaves, also while it waits; `on_end` is called whatever happens.
    """

    media_type = "text/event-stream"

    def __init__(
        self, events: AsyncGenerator[bytes, None], keep_alive_s: float, on_end: Callable[[bool], object]
    ) -> None:
        """`on_end` is told whether the caller left before the end."""
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._keep_alive_s = keep_alive_s
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends until the events end or the caller leaves."""
        gone = False
        try:
            await unless_gone(self._send_all(send), receive)
        except GoneError:
            gone = True
        finally:
            self._on_end(gone)

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        coming: asyncio.Task[bytes] | None = None
        try:
            while True:
                coming = coming or asyncio.create_task(_next(self._events))
                done, _ = await asyncio.wait({coming}, timeout=self._keep_alive_s)
                if not done:
                    await send({"type": "http.response.body", "body": _COMMENT, "more_body": True})
                    continue
                try:
                    chunk = coming.result()
                except StopAsyncIteration:
                    break
                coming = None
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        finally:
            if coming is not None:
                await _ended(coming)
            await self._events.aclose()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _next(events: AsyncGenerator[bytes, None]) -> bytes:
    return await anext(events)


async def _ended(*tasks: asyncio.Future[Any]) -> None:
    """Cancels what is not done, and waits until it has let go of what it held."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
