"""Pictures written by threads, so that the engine does not wait for compression and the disk."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

from PIL import Image

from headrace.cli.pictures import write_picture

T = TypeVar("T")
_THREADS = 2


class PictureWriter(Generic[T]):
    """Writes pictures in the order that threads get to them; a tag of the caller's stands for each.

    At most `most` pictures wait, so a slow disk slows the engine down and never fills the memory. Leaving the `with`
    block waits for what was begun.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="pictures")
        self._pending: dict[Future[None], T] = {}

    def __enter__(self) -> PictureWriter[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._threads.shutdown()

    @property
    def pending(self) -> list[T]:
        """Tags of the pictures that are not known to be on disk yet."""
        return list(self._pending.values())

    def write(self, tag: T, path: Path, image: Image.Image, settings: Mapping[str, Any]) -> list[T]:
        """Queues a picture; returns what had to be written first, where too many wait. Raises `OutputError`."""
        done: list[T] = []
        while len(self._pending) >= self._most:
            wait(self._pending, return_when=FIRST_COMPLETED)
            done += self.written()
        self._pending[self._threads.submit(write_picture, path, image, settings)] = tag
        return done

    def written(self, everything: bool = False) -> list[T]:
        """Tags of the pictures that came onto disk since the last call; with `everything`, of all there are.

        Raises the `OutputError` of a picture that could not be written.
        """
        finished = [future for future in self._pending if everything or future.done()]
        tags = []
        for future in finished:
            future.result()
            tags.append(self._pending.pop(future))
        return tags
