"""A small server of OpenAI's images API that does what a request's prompt says; it draws nothing."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

PICTURE = "cGljdHVyZQ=="


class Clock:
    """When requests came in."""

    def __init__(self) -> None:
        self.arrivals: list[float] = []
        self.bodies: list[dict] = []
        self.keys: list[str | None] = []
        self.now = 0
        self.most = 0


def answer(count: int) -> JSONResponse:
    return JSONResponse({"created": 0, "data": [{"b64_json": PICTURE}] * count})


def refused(status: int, code: str) -> JSONResponse:
    error = {"error": {"message": f"the answer is {status}", "type": "some_error", "code": code, "param": None}}
    return JSONResponse(error, status)


def create_app(clock: Clock) -> FastAPI:
    app = FastAPI()

    @app.get("/v1/models")
    async def models():
        return {"object": "list", "data": [{"id": "model", "object": "model"}]}

    @app.post("/v1/images/generations")
    async def generate(request: Request):
        body = await request.json()
        clock.arrivals.append(time.monotonic())
        clock.bodies.append(body)
        clock.keys.append(request.headers.get("authorization"))
        word, _, value = str(body["prompt"]).partition(" ")
        clock.now += 1
        clock.most = max(clock.most, clock.now)
        try:
            return await _act(word, value, body)
        finally:
            clock.now -= 1

    return app


async def _act(word: str, value: str, body: dict):
    if word == "slow":
        await asyncio.sleep(float(value))
    if word == "status":
        return refused(int(value), "busy")
    if body.get("stream") or word in ("cut", "fail"):
        return StreamingResponse(_events(word, body), media_type="text/event-stream")
    return answer({"short": 0, "more": 3}.get(word, body.get("n", 1)))


async def _events(word: str, body: dict):
    for index in range(body.get("partial_images", 0)):
        yield _event({"type": "image_generation.partial_image", "b64_json": PICTURE, "partial_image_index": index})
        await asyncio.sleep(0.05)
    if word == "fail":
        yield _event({"type": "error", "error": {"message": "no picture", "code": "execution_failed"}})
    elif word != "cut":
        yield ": a comment\n\n"
        yield _event({"type": "image_generation.completed", "b64_json": PICTURE})
        yield "data: [DONE]\n\n"


def _event(data: dict) -> str:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n"


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The address at which `app` is served, by a thread of this process."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        with suppress(RuntimeError):
            thread.join(10)
