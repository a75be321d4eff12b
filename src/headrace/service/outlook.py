"""What a service expects of the wishes that it holds: rows, costs, and when each is done."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Iterable

from headrace.service.forecast import Pace, Work, finishes
from headrace.service.held import Held
from headrace.service.model_card import ModelCard
from headrace.service.pace_seen import PaceSeen
from headrace.service.status import RoundSeen
from headrace.service.wish import Wish
from headrace.serving.latency_table import LatencyTable

_PLANS = 1024  # kept
_FRESH_S = 0.1  # a forecast for those who are refused may be so old

_Key = tuple[str | None, int, str | None]


class Outlook:
    """Learns from plans and rounds. `slots` are those of the engine."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._seen = PaceSeen()
        self._rows: OrderedDict[_Key, int] = OrderedDict()
        self._card: ModelCard | None = None
        self._looked: tuple[float, list[float]] = (-math.inf, [])

    def ready(self, card: ModelCard, table: LatencyTable | None) -> None:
        """A process is there. What was learnt of an earlier one stays."""
        if self._card is None and table is not None:
            self._seen = PaceSeen(Pace.of(table, card.default_size))
        self._card = card

    def rows(self, wish: Wish) -> int:
        """Rows that its plan should have: those of the last one like it, or a row a step."""
        return self._rows.get(_key(wish), wish.request.steps)

    def planned(self, wish: Wish, rows: int) -> None:
        """A plan has so many rows."""
        self._rows[_key(wish)] = rows
        if len(self._rows) > _PLANS:
            self._rows.popitem(last=False)

    def cost(self, wish: Wish) -> float:
        """Of a row, in rows of the default size with all branches."""
        card = self._card
        if card is None:
            return 1.0
        request = wish.request
        scale = card.default_guidance if request.guidance_scale is None else request.guidance_scale
        halved = card.guided and scale <= 1
        return self._area(request.height, request.width) * (0.5 if halved else 1.0)

    def slots(self, wish: Wish) -> int:
        """That it takes."""
        return max(1, math.ceil(self._area(wish.request.height, wish.request.width)))

    def ends(self, held: Iterable[Held]) -> list[float]:
        """Seconds until each is done once a process is ready."""
        works = [Work(one.rows_left, one.cost, one.slots, one.wish.priority, one.resident) for one in held]
        return finishes(works, self._slots, self._seen.pace)

    def lately(self, held: Iterable[Held]) -> list[float]:
        """The same, or what it was a moment ago."""
        now = time.monotonic()
        if now - self._looked[0] > _FRESH_S:
            self._looked = now, self.ends(held)
        return self._looked[1]

    def alone(self, one: Held) -> float:
        """Seconds that it would take with nothing else to do."""
        return finishes([Work(one.rows, one.cost)], self._slots, self._seen.pace)[0]

    def turned(self, seen: RoundSeen) -> None:
        """A round was run."""
        if self._card is None:
            return
        guided = self._card.guided
        cost = sum(self._area(row.height, row.width) * (1.0 if row.guided or not guided else 0.5) for row in seen.rows)
        pictures = sum(1 / max(1, chunk.chunks) for chunk in seen.chunks)
        self._seen.observe(cost, pictures, seen.seconds, seen.decode_s if seen.chunks else 0.0)

    def _area(self, height: int | None, width: int | None) -> float:
        if self._card is None:
            return 1.0
        own_height, own_width = self._card.default_size
        return (height or own_height) * (width or own_width) / (own_height * own_width)


def _key(wish: Wish) -> _Key:
    request = wish.request
    solver = None if request.solver is None else request.solver.lower()
    return solver, request.steps, wish.acceleration
