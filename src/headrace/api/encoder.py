"""Pixels into files, by threads: never on the event loop."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

from headrace.pictures.image import to_image
from headrace.pictures.labelled import PictureFormat, encode_labelled
from headrace.service.events import Pixels

T = TypeVar("T")
MEDIA_TYPES: Mapping[str, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


@dataclass(frozen=True)
class Encoding:
    """How a picture is to be compressed; `quality`, 0 to 100, is for JPEG and WebP."""

    picture_format: PictureFormat = "png"
    quality: int = 100


@dataclass(frozen=True)
class Encoded:
    """A file's bytes, and the seconds that making them took."""

    data: bytes
    seconds: float

    @property
    def base64(self) -> str:
        """As JSON carries it."""
        return base64.b64encode(self.data).decode("ascii")


class Encoder:
    """A few threads that compress pictures. `close` waits for those that were begun."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="encode")

    async def encode(self, pixels: Pixels, settings: Mapping[str, Any], encoding: Encoding) -> Encoded:
        """The file of one picture [H, W, channels], which carries its settings."""
        return await self.run(lambda: encode_pixels(pixels, settings, encoding))

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns, worked out by one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown(cancel_futures=True)


def encode_pixels(pixels: Pixels, settings: Mapping[str, Any], encoding: Encoding) -> Encoded:
    """The file of one picture [H, W, 1 or 3 channels]."""
    begun = perf_counter()
    data = encode_labelled(to_image(pixels), settings, encoding.picture_format, encoding.quality)
    return Encoded(data, perf_counter() - begun)
