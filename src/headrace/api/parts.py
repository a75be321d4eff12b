"""What stands beside pictures on request: batches, the engine's live view and the page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from headrace.api.batches import batch_routes, file_routes
from headrace.api.batches.access import Batching
from headrace.api.batches.runner import Runner
from headrace.api.batches.shelf import Shelf
from headrace.api.context import ApiContext
from headrace.api.page import costs, live, page
from headrace.api.page.viewers import Viewers


def add_parts(app: FastAPI, context: ApiContext) -> None:
    """Their routes. Raises `ServiceError` where another server uses the data folder."""
    folder = context.settings.data_folder
    if folder is not None:
        shelf = Shelf(folder, context.settings.batches)
        app.state.batching = Batching(shelf, Runner(context, shelf))
        app.include_router(file_routes.router)
        app.include_router(batch_routes.router)
    app.state.viewers = Viewers()
    for part in (live, costs, page):
        app.include_router(part.router)
    app.mount("/static", page.PageFiles(), name="static")


@asynccontextmanager
async def parts_running(app: FastAPI, context: ApiContext) -> AsyncIterator[None]:
    """Works on batches and tells viewers for as long as the app runs."""
    batching: Batching | None = getattr(app.state, "batching", None)
    working = asyncio.create_task(batching.runner.run()) if batching else None
    unwatch = context.service.watch(app.state.viewers.saw_round)
    try:
        yield
    finally:
        unwatch()
        if working is not None and batching is not None:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            batching.shelf.close()
