"""Pictures kept for a while, for whoever knows their names."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class StoredPicture:
    """A picture's file; `expires` is on the store's clock."""

    data: bytes
    media_type: str
    expires: float


class PictureStore:
    """At most so many pictures, bytes and seconds: the oldest go first. Used from one thread, the event loop's.

    Names are random, 192 bits, and are all that it takes to fetch a picture.
    """

    def __init__(
        self, pictures: int, most_bytes: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = pictures
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._clock = clock
        self._pictures: OrderedDict[str, StoredPicture] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._pictures)

    def put(self, data: bytes, media_type: str) -> str:
        """Keeps a picture and returns its name. One that is larger than the whole store stays until the next."""
        name = secrets.token_urlsafe(24)
        self._pictures[name] = StoredPicture(data, media_type, self._clock() + self._seconds)
        self.bytes += len(data)
        self._clear()
        while len(self._pictures) > 1 and (len(self._pictures) > self._most or self.bytes > self._most_bytes):
            self._drop_oldest()
        return name

    def get(self, name: str) -> StoredPicture | None:
        """The picture of that name; None where there is none any more."""
        self._clear()
        return self._pictures.get(name)

    def seconds_left(self, picture: StoredPicture) -> int:
        """How long it stays at most."""
        return max(0, int(picture.expires - self._clock()))

    def _clear(self) -> None:
        """All stay equally long, so those that are over stand in front."""
        now = self._clock()
        while self._pictures and next(iter(self._pictures.values())).expires <= now:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, picture = self._pictures.popitem(last=False)
        self.bytes -= len(picture.data)
