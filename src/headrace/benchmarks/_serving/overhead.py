"""What HTTP adds to a request: all that it takes, less what the service and the picture's encoding take of it."""

from __future__ import annotations

import os
import queue
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import uvicorn
from fastapi import FastAPI

from headrace.api.app import create_app
from headrace.api.logs import make_log
from headrace.benchmarks._progress import Show
from headrace.benchmarks._serving.exchange import PATH
from headrace.errors import HeadraceError, ServiceError
from headrace.request import Request
from headrace.service import Event, Failed, Finished, ModelCard, RoundSeen, Service, Status, Wish
from headrace.service.service import Listener

_WAIT_S = 120.0
_WARM_UP = 3


@dataclass(frozen=True)
class Overhead:
    """Milliseconds, medians over the pairs.

    Attributes:
        added_ms: what a request through HTTP took, from its first byte to the last of its answer, less the time from
            the service's taking it to its telling that the picture is there, less the picture's encoding. Two sockets,
            routing, checking, threads, JSON and the client's own part are in it.
        added_p95_ms: its 95th percentile.
        http_ms, service_ms, encoding_ms: what it is made of.
        direct_ms: what the same request takes straight from the service, without any HTTP, in turns with those.
        pairs: measured.
    """

    added_ms: float
    added_p95_ms: float
    http_ms: float
    service_ms: float
    encoding_ms: float
    direct_ms: float
    pairs: int


def measure_overhead(service: Service, request: Request, pairs: int, show: Show) -> Overhead:
    """The same request, one at a time, through HTTP and straight from the service, in turns.

    `service` is ready. Raises `HeadraceError` where a request fails.
    """
    timed = _Timed(service)
    found: list[tuple[float, float, float, float, float]] = []
    body = _body(request)
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        served(create_app(timed, log=make_log(stream=nowhere))) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=_WAIT_S) as client,
    ):
        for number in range(-_WARM_UP, pairs):
            direct = _straight(service, request)
            through, encoding = _through_http(client, body)
            if number >= 0:
                found.append((through - timed.seconds - encoding, through, timed.seconds, encoding, direct))
            show("what HTTP adds", (number + _WARM_UP + 1) / (pairs + _WARM_UP))
    columns = [[1000 * value for value in column] for column in zip(*found, strict=True)]
    added, http, inside, encoding_ms, straight = (round(statistics.median(column), 4) for column in columns)
    p95 = round(sorted(columns[0])[int(0.95 * pairs)], 4)
    return Overhead(added, p95, http, inside, encoding_ms, straight, pairs)


class _Timed:
    """A service, with a clock between it and who asks it; all else is its own."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.seconds = 0.0  # of the last wish, from its submission to its picture

    @property
    def model(self) -> ModelCard:
        return self._service.model

    def submit(self, wish: Wish, listen: Listener) -> str:
        began = time.perf_counter()

        def heard(event: Event) -> None:
            if isinstance(event, Finished):
                self.seconds = time.perf_counter() - began
            listen(event)

        return self._service.submit(wish, heard)

    def cancel(self, ticket: str) -> bool:
        return self._service.cancel(ticket)

    def status(self) -> Status:
        return self._service.status()

    def watch(self, tell: Callable[[RoundSeen], None]) -> Callable[[], None]:
        return self._service.watch(tell)

    def start(self, wait_s: float | None = None) -> None:
        self._service.start(wait_s)

    def stop(self, drain_s: float = 0.0) -> bool:
        return self._service.stop(drain_s)


def _straight(service: Service, request: Request) -> float:
    """Seconds until the picture is there."""
    told: queue.SimpleQueue[Event] = queue.SimpleQueue()
    began = time.perf_counter()
    service.submit(Wish(request), told.put)
    while True:
        event = told.get(timeout=_WAIT_S)
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Finished):
            return time.perf_counter() - began


def _through_http(client: httpx.Client, body: dict[str, object]) -> tuple[float, float]:
    """Seconds until all of the answer is there, and those of them that the picture's encoding took."""
    began = time.perf_counter()
    response = client.post(PATH, json=body)
    took = time.perf_counter() - began
    if not response.is_success:
        raise HeadraceError(f"a request through HTTP was answered with {response.status_code}: {response.text[:200]}")
    [picture] = response.json()["data"]
    return took, float(picture["headrace"]["times_ms"]["encoding"]) / 1000


def _body(request: Request) -> dict[str, object]:
    fields = request.model_dump(exclude={"height", "width"}, exclude_none=True)
    if request.height is not None and request.width is not None:
        fields["size"] = f"{request.width}x{request.height}"
    return fields


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The address at which a thread of this process serves `app`."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, name="headrace-http", daemon=True)
    thread.start()
    until = time.monotonic() + _WAIT_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > until:
            raise ServiceError("the server in this process did not start", "See its words above")
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
