"""A plain image server, as people deploy one: FastAPI, one diffusers pipeline, one request at a time.

`python -m headrace.benchmarks._serving.peer MODEL --port 8001` serves `/v1/images/generations` with the extension
fields of `headrace serve` that a pipeline can follow. The n pictures of a request are one batch, each with a generator
of its own (seed, seed + 1, ...), so that its pictures are those of Headrace. What it does not have: other requests in
the same batch, previews (a streamed request gets its pictures as events when all are done), deadlines, priorities, and
a bound on its queue.

It is given what it can use: the pipeline is called in one thread, which keeps one team of OpenMP threads (the usual
thread pool would make one for every thread that ever had a request), in first-come order, in channels-last.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import numpy as np
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse, StreamingResponse
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field
from starlette.responses import Response

from headrace.benchmarks._contestants import Diffusers
from headrace.errors import UnsupportedModelError
from headrace.models.pipelines.folder import inspect
from headrace.request import Request


class Wanted(BaseModel):
    """The fields of a request that a pipeline can follow; others are left alone."""

    prompt: str = Field(min_length=1)
    n: Annotated[int, Field(ge=1, le=10)] = 1
    size: Annotated[str, Field(pattern=r"^(auto|\d{1,4}x\d{1,4})$")] = "auto"
    steps: Annotated[int, Field(ge=1, le=1000)] = 20
    guidance_scale: float = 7.5
    seed: int = 0
    negative_prompt: str = ""
    solver: str = "ddim"
    stream: bool = False

    def requests(self) -> list[Request]:
        """One a picture."""
        width, height = (None, None) if self.size == "auto" else map(int, self.size.split("x"))
        return [
            Request(
                prompt=self.prompt, negative_prompt=self.negative_prompt, steps=self.steps, solver=self.solver,
                guidance_scale=self.guidance_scale, height=height, width=width, seed=self.seed + number,
            )
            for number in range(self.n)
        ]  # fmt: skip


class Worker:
    """The pipeline and the one thread that calls it."""

    def __init__(self, model: str, device: str) -> None:
        """Loads it. Raises `UnsupportedModelError` for a model that takes no prompts, and `ModelError`."""
        check_prompts(model)
        self._thread = ThreadPoolExecutor(1, "pipeline")
        self._pipeline = self._thread.submit(Diffusers, model, device, channels_last=True).result()

    async def make(self, wanted: Wanted) -> list[str]:
        """The pictures as PNG in base64, when all requests that came before are done."""
        return await asyncio.wrap_future(self._thread.submit(self._make, wanted))

    def _make(self, wanted: Wanted) -> list[str]:
        return [encode(pixels) for pixels in self._pipeline.call(wanted.requests())]


def check_prompts(model: str) -> None:
    """Raises `UnsupportedModelError` for a model that takes no prompts, and `ModelError`."""
    if "tokenizer" not in inspect(model).parts:
        raise UnsupportedModelError(f"{model} takes no prompts", "The plain server is for text-to-image models")


def encode(pixels: NDArray[np.uint8]) -> str:
    """uint8 [H, W, channels] as PNG in base64."""
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, format="png")
    return base64.b64encode(target.getvalue()).decode("ascii")


def create_peer(model: str, device: str = "cpu") -> FastAPI:
    """The server. Raises what `Worker` raises."""
    app = FastAPI(title="diffusers behind a lock")
    worker = Worker(model, device)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": model, "object": "model", "created": 0, "owned_by": "diffusers"}]}

    @app.post("/v1/images/generations", response_model=None)
    async def generate(wanted: Wanted) -> Response:
        pictures, created = await worker.make(wanted), int(time.time())
        if wanted.stream:
            return StreamingResponse(_events(pictures, created), media_type="text/event-stream")
        return JSONResponse({"created": created, "data": [{"b64_json": picture} for picture in pictures]})

    return app


def _events(pictures: list[str], created: int) -> Iterator[str]:
    for picture in pictures:
        data = {"type": "image_generation.completed", "b64_json": picture, "created_at": created}
        yield f"event: image_generation.completed\ndata: {json.dumps(data)}\n\n"


def main() -> None:
    """Serves on the loopback interface until it is told to end."""
    parser = argparse.ArgumentParser(description="diffusers behind a lock, as a peer to measure against")
    parser.add_argument("model")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    uvicorn.run(create_peer(options.model, options.device), host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
