"""Who watches the engine: each has a bounded queue of rounds, so that a slow one loses rounds and stops nobody."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress
from typing import Any

from headrace.api.page.pace import Pace
from headrace.service import RoundSeen

ROUNDS_KEPT = 256
MOST_VIEWERS = 64


class Viewer:
    """One who watches; made on the event loop, told from any thread."""

    def __init__(self) -> None:
        self._rounds: deque[RoundSeen] = deque(maxlen=ROUNDS_KEPT)
        self._lost = 0
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._there = asyncio.Event()

    def tell(self, seen: RoundSeen) -> None:
        """Keeps a round, and forgets the oldest where too many wait."""
        with self._lock:
            first = not self._rounds
            self._lost += len(self._rounds) == ROUNDS_KEPT
            self._rounds.append(seen)
        if first:
            with suppress(RuntimeError):  # the loop is closed: nobody watches any more
                self._loop.call_soon_threadsafe(self._there.set)

    async def rounds(self, wait_s: float) -> tuple[list[RoundSeen], int]:
        """What came since, and how many rounds of it were lost; nothing where none came in `wait_s` seconds."""
        try:
            async with asyncio.timeout(wait_s):
                await self._there.wait()
        except TimeoutError:
            return [], 0
        self._there.clear()
        with self._lock:
            found, lost = list(self._rounds), self._lost
            self._rounds.clear()
            self._lost = 0
        return found, lost


class Viewers:
    """All who watch one app's engine, and the pace that it was seen to have."""

    def __init__(self) -> None:
        self.pace = Pace()
        self._viewers: list[Viewer] = []
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._viewers)

    def saw_round(self, seen: RoundSeen) -> None:
        """For `Service.watch`: never waits."""
        self.pace.saw_round(seen)
        with self._lock:
            viewers = list(self._viewers)
        for viewer in viewers:
            viewer.tell(seen)

    def join(self) -> Viewer | None:
        """A new viewer; None where there are as many as may be."""
        with self._lock:
            if len(self._viewers) >= MOST_VIEWERS:
                return None
            viewer = Viewer()
            self._viewers.append(viewer)
            return viewer

    def leave(self, viewer: Viewer) -> None:
        """Tells it nothing more."""
        with self._lock:
            if viewer in self._viewers:
                self._viewers.remove(viewer)


def told(seen: RoundSeen) -> dict[str, Any]:
    """A round as JSON: rows are [ticket, row, rows, height, width, guided, skipped], chunks [ticket, chunk, chunks]."""
    return {
        "replica": seen.replica,
        "at": round(seen.at, 5),
        "s": round(seen.seconds, 5),
        "unet": round(seen.unet_s, 5),
        "decode": round(seen.decode_s, 5),
        "rows": [
            [row.ticket, row.row, row.rows, row.height, row.width, int(row.guided), int(row.skipped)]
            for row in seen.rows
        ],
        "chunks": [[chunk.ticket, chunk.chunk, chunk.chunks] for chunk in seen.chunks],
        "calls": seen.calls,
        "network_rows": seen.network_rows,
        "waiting": seen.waiting,
        "resident": seen.resident,
        "finished": seen.finished,
        "reason": seen.reason,
        "controller": dict(seen.controller),
    }
