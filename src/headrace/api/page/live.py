"""`/v1/engine/events`: what the engine does, as it does it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from headrace.api.context import ApiContext, Context
from headrace.api.errors import ApiError, documented
from headrace.api.event_stream import EventStream, event
from headrace.api.page.viewers import MOST_VIEWERS, Viewer, Viewers, told

STATUS_S = 1.0
FLUSH_S = 0.1
router = APIRouter(tags=["engine"], responses=documented(401, 403, 429))


def viewers_of(request: Request) -> Viewers:
    """Of the app that a request came to."""
    viewers: Viewers = request.app.state.viewers
    return viewers


Watching = Annotated[Viewers, Depends(viewers_of)]


@router.get(
    "/v1/engine/events",
    summary="Rounds, as they are run",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def events(context: Context, viewers: Watching) -> Response:
    """Server-sent events: `status` once a second, `rounds` soon after they ran. Who reads slowly loses rounds."""
    viewer = viewers.join()
    if viewer is None:
        message = f"{MOST_VIEWERS} watch already. Close a page, or ask again later"
        raise ApiError(429, message, "too_many_viewers", retry_after_s=10)
    return EventStream(_events(viewer, context), context.settings.keep_alive_s, lambda gone: viewers.leave(viewer))


async def _events(viewer: Viewer, context: ApiContext) -> AsyncGenerator[bytes, None]:
    next_status = 0.0
    while True:
        now = time.monotonic()
        if now >= next_status:
            next_status = now + STATUS_S
            status = context.service.status()
            yield event("status", {**asdict(status), "now": now})
            if status.state == "stopped":
                return  # a server that ends waits for nobody who watches
        rounds, lost = await viewer.rounds(max(0.0, next_status - time.monotonic()))
        if rounds:
            yield event("rounds", _message(rounds, lost))
            await asyncio.sleep(FLUSH_S)  # rounds of a fast engine go out together


def _message(rounds: list[Any], lost: int) -> dict[str, Any]:
    return {"now": time.monotonic(), "lost": lost, "rounds": [told(seen) for seen in rounds]}
