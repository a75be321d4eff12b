"""A `Service` in this process, without an engine: pictures at once or when told, failures and refusals as told."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from headrace.errors import HeadraceError, RequestError, StoppingError
from headrace.service import (
    AccelerationCard,
    Accepted,
    Failed,
    Finished,
    Load,
    ModelCard,
    Preview,
    RoundSeen,
    RowSeen,
    Status,
    Timing,
    Wish,
)

CARD = ModelCard(
    name="fake",
    family="fake diffusion",
    conditioning="prompt",
    classes=0,
    guided=True,
    default_guidance=7.5,
    default_steps=20,
    default_solver="ddim",
    default_size=(32, 48),
    size_multiple=8,
    max_pixels=256 * 256,
    solvers=("ddim", "dpm++2m", "heun"),
    fingerprint="0123456789abcdef",
    created=1_700_000_000,
    accelerations=(
        AccelerationCard("fast", "block cache 40%", 1.7, 0.98, "ssim", {"steps": 12, "solver": "dpm++2m"}),
        AccelerationCard("careful", "guidance until 80% of the rows", 1.1),
    ),
    device="no device",
    dtype="float32",
)
CLASSES = replace(CARD, name="fake-classes", conditioning="class", classes=10)
UNCONDITIONAL = replace(CARD, name="fake-free", conditioning=None, guided=False, default_guidance=1.0)


@dataclass
class Taken:
    """A wish that is here, and who listens."""

    ticket: str
    wish: Wish
    listen: Callable
    submitted: float = field(default_factory=time.monotonic)


class FakeService:
    """Listeners are called by a thread of its own, as a service's are.

    Attributes:
        hold: while True, wishes stay until `release` is called.
        refuse: an error that `submit` raises.
        fail: wish -> the error that it fails with, or None. `reject`: the same, before it is accepted.
        taken: wishes that are here, by ticket. `seen`: all that ever came. `dropped`: tickets that were cancelled.
    """

    def __init__(self, card: ModelCard = CARD, hold: bool = False) -> None:
        self.card = card
        self.hold = hold
        self.state = "ready"
        self.not_ready: HeadraceError | None = None
        self.refuse: HeadraceError | None = None
        self.fail: Callable[[Wish], HeadraceError | None] = lambda wish: None
        self.reject: Callable[[Wish], HeadraceError | None] = lambda wish: None
        self.taken: dict[str, Taken] = {}
        self.seen: list[Wish] = []
        self.dropped: list[str] = []
        self.finished = 0
        self.stopped = False
        self._numbers = itertools.count(1)
        self._watchers: list[Callable[[RoundSeen], None]] = []
        self._lock = threading.RLock()

    @property
    def model(self) -> ModelCard:
        if self.not_ready is not None:
            raise self.not_ready
        return self.card

    def submit(self, wish: Wish, listen: Callable) -> str:
        card = self.model
        if self.state == "draining":
            raise StoppingError("the service drains", "Ask another")
        if self.refuse is not None:
            raise self.refuse
        _check(wish, card)
        with self._lock:
            ticket = f"t{next(self._numbers)}"
            self.taken[ticket] = Taken(ticket, wish, listen)
            self.seen.append(wish)
        if not self.hold:
            threading.Thread(target=self.release, args=(ticket,), daemon=True).start()
        return ticket

    def release(self, ticket: str | None = None, previews_only: bool = False) -> None:
        """Makes the pictures of one ticket, or of all that are here; with `previews_only` it stops before the end."""
        for taken in [self.taken[ticket]] if ticket else list(self.taken.values()):
            self._run(taken, previews_only)

    def _run(self, taken: Taken, previews_only: bool) -> None:
        wish, rows = taken.wish, taken.wish.request.steps
        error = self.reject(wish)
        if error is not None:
            return self._end(taken, Failed(taken.ticket, error))
        self._tell(taken, Accepted(taken.ticket, rows, 0.5))
        self._tell_round(taken, rows)
        for index in range(wish.previews):
            row = (index + 1) * rows // (wish.previews + 1)
            self._tell(taken, Preview(taken.ticket, index, row, rows, self._pixels(wish, shade=64 * index)))
        if previews_only:
            return None
        error = self.fail(wish)
        if error is not None:
            return self._end(taken, Failed(taken.ticket, error))
        now = time.monotonic()
        timing = Timing(taken.submitted, taken.submitted + 0.001, now, now)
        pictures = tuple(self._pixels(wish, shade=255 - number) for number in range(self.card.pictures))
        self.finished += 1
        return self._end(taken, Finished(taken.ticket, pictures, timing, _settings(wish, self.card)))

    def _pixels(self, wish: Wish, shade: int) -> np.ndarray:
        height, width = _size(wish, self.card)
        pixels = np.full((height, width, 3), shade, np.uint8)
        pixels[0, 0, 0] = wish.request.seed % 256  # two seeds, two pictures
        return pixels

    def _tell(self, taken: Taken, event: object) -> None:
        if taken.ticket in self.taken:
            taken.listen(event)

    def _end(self, taken: Taken, event: object) -> None:
        with self._lock:
            known = self.taken.pop(taken.ticket, None)
        if known is not None:
            taken.listen(event)

    def _tell_round(self, taken: Taken, rows: int) -> None:
        height, width = _size(taken.wish, self.card)
        row = RowSeen(taken.ticket, rows, rows, height, width, guided=True, skipped=False)
        seen = RoundSeen(
            0, time.monotonic(), 0.02, 0.015, 0.005, (row,), (), 1, 2, 0, 1, 0, "all", {"window": 0.5, "chunks": 4.0}
        )
        for watcher in list(self._watchers):
            watcher(seen)

    def cancel(self, ticket: str) -> bool:
        with self._lock:
            known = self.taken.pop(ticket, None)
            if known is not None:
                self.dropped.append(ticket)
        return known is not None

    def status(self) -> Status:
        state = "starting" if self.not_ready is not None else self.state
        return Status(
            state, Load(waiting=len(self.taken)), accepted=len(self.seen), finished=self.finished,
            cancelled=len(self.dropped), max_rows=32, memory_bytes=1 << 20, policy="fake",
        )  # fmt: skip

    def watch(self, tell: Callable[[RoundSeen], None]) -> Callable[[], None]:
        self._watchers.append(tell)
        return lambda: self._watchers.remove(tell)

    def start(self, wait_s: float | None = None) -> None:
        self.state = "ready"

    def stop(self, drain_s: float = 0.0) -> bool:
        self.state, self.stopped = "draining", True
        until = time.monotonic() + drain_s
        while self.taken and time.monotonic() < until:
            time.sleep(0.01)
        done = not self.taken
        for taken in list(self.taken.values()):
            self._end(taken, Failed(taken.ticket, StoppingError("the service stopped", "Ask again")))
        return done


def _check(wish: Wish, card: ModelCard) -> None:
    """What an engine refuses of a request."""
    request = wish.request
    height, width = _size(wish, card)
    if height % card.size_multiple or width % card.size_multiple:
        raise RequestError("height", f"{width}x{height} is no multiple of {card.size_multiple}", "Give one")
    if height * width > card.max_pixels:
        raise RequestError("height", f"{width}x{height} is too large", f"At most {card.max_pixels} pixels")
    if request.solver is not None and request.solver not in card.solvers:
        raise RequestError("solver", f"solver {request.solver!r} is unknown", f"Use one of {', '.join(card.solvers)}")
    if wish.acceleration not in (None, "none", *(one.name for one in card.accelerations)):
        raise RequestError("acceleration", f"acceleration {wish.acceleration!r} is unknown", "See /v1/models")
    if card.conditioning == "prompt" and request.prompt is None:
        raise RequestError("prompt", "there is no prompt", "Say what to show")
    if request.class_label is not None and not request.class_label < card.classes:
        raise RequestError("class_label", f"class {request.class_label} is unknown", f"0 to {card.classes - 1}")


def _size(wish: Wish, card: ModelCard) -> tuple[int, int]:
    height, width = card.default_size
    return wish.request.height or height, wish.request.width or width


def _settings(wish: Wish, card: ModelCard) -> dict[str, object]:
    height, width = _size(wish, card)
    request = wish.request
    return {
        "solver": request.solver or card.default_solver, "steps": request.steps, "height": height, "width": width,
        "guidance_scale": card.default_guidance if request.guidance_scale is None else request.guidance_scale,
    }  # fmt: skip
