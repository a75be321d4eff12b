"""An app with batches over a fake service, served by uvicorn in a thread, and OpenAI's client for it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import uvicorn
from fake_service import FakeService

from headrace.api.app import create_app
from headrace.api.batches.limits import BatchLimits
from headrace.api.settings import ApiSettings


@contextmanager
def served(
    service: FakeService, folder: Path | None, limits: BatchLimits | None = None, **settings: object
) -> Iterator[openai.OpenAI]:
    app = create_app(service, ApiSettings(data_folder=folder, batches=limits or BatchLimits(), **settings))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    key = (settings.get("api_keys") or ("none",))[0]
    try:
        yield openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key, max_retries=0)
    finally:
        server.should_exit = True
        thread.join(10)


def wait_for(true: Callable[[], object], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)


def lines(*bodies: object) -> bytes:
    return b"".join(json.dumps(body).encode() + b"\n" for body in bodies)


def envelope(custom_id: str, **body: object) -> dict[str, object]:
    return {
        "custom_id": custom_id, "method": "POST", "url": "/v1/images/generations", "body": {"prompt": "a", **body},
    }  # fmt: skip


def submitted(client: openai.OpenAI, content: bytes, **options: object) -> openai.types.Batch:
    file = client.files.create(file=("lines.jsonl", content), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/images/generations", completion_window="24h", **options
    )


def ended(client: openai.OpenAI, batch: str, seconds: float = 10.0) -> openai.types.Batch:
    wait_for(lambda: client.batches.retrieve(batch).status in ("completed", "failed", "cancelled", "expired"), seconds)
    return client.batches.retrieve(batch)


def read(client: openai.OpenAI, file: str | None) -> list[dict]:
    assert file is not None
    return [json.loads(line) for line in client.files.content(file).text.splitlines()]
