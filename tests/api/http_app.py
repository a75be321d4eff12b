"""An app over a fake service, called over ASGI."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fake_service import FakeService

from headrace.api.app import create_app
from headrace.api.logs import make_log
from headrace.api.settings import ApiSettings

GENERATIONS = "/v1/images/generations"


class Lines(io.StringIO):
    """What was logged."""

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@asynccontextmanager
async def calling(
    service: FakeService, settings: ApiSettings | None = None, lines: Lines | None = None, **client: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app over that service."""
    app = create_app(service, settings, make_log("json", lines or Lines()))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost", **client) as http,
    ):
        yield http


def call(service: FakeService, method: str, path: str, settings: ApiSettings | None = None, **content: Any) -> Any:
    """One request's answer."""

    async def one() -> httpx.Response:
        async with calling(service, settings) as http:
            return await http.request(method, path, **content)

    return asyncio.run(one())


def ask(service: FakeService, settings: ApiSettings | None = None, **body: Any) -> Any:
    """The answer to one request for pictures."""
    return call(service, "POST", GENERATIONS, settings, json=body)


def events_of(text: str) -> list[dict[str, Any]]:
    """The data of a stream's events."""
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


async def until(true: Any, seconds: float = 5.0) -> None:
    """Waits until `true()` is."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.005)


class RawCall:
    """One ASGI call by hand: its body in pieces, and its caller can leave."""

    def __init__(self, app: Any, path: str = GENERATIONS, headers: dict[str, str] | None = None) -> None:
        self._left = asyncio.Event()
        self._pieces: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        given = {"content-type": "application/json", "host": "localhost", **(headers or {})}
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "POST",
            "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        }  # fmt: skip
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    def send_body(self, piece: bytes, more: bool = False) -> None:
        self._pieces.put_nowait({"type": "http.request", "body": piece, "more_body": more})

    def leave(self) -> None:
        self._pieces.put_nowait({"type": "http.disconnect"})

    @property
    def status(self) -> int:
        return self.sent[0]["status"]

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.sent).decode()

    async def _receive(self) -> dict[str, Any]:
        return await self._pieces.get()

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
