"""How fast rounds were lately, and so how fast those to come should be."""

from __future__ import annotations

from headrace.service.forecast import Pace

_MEMORY = 0.98  # of what was seen, kept from round to round
_FASTEST, _SLOWEST = 0.1, 20.0  # of what a latency table says
_FEW = 3.0


class PaceSeen:
    """Corrects a latency table by what is observed; where there is none, fits a call's and a row's seconds to it.

    The fit is of seconds = call + row * cost + picture * pictures, exponentially weighted towards the latest rounds.
    """

    def __init__(self, table: Pace | None = None) -> None:
        self._table = table
        self._weight = self._cost = self._seconds = 0.0
        self._cost2 = self._product = 0.0
        self._expected = 0.0
        self._picture_s = 0.0

    @property
    def known(self) -> bool:
        """Whether anything can be said."""
        return self._table is not None or self._weight >= 1.0

    @property
    def pace(self) -> Pace:
        """What is expected of the next rounds."""
        if self._table is not None:
            return self._table.times(self._factor)
        if self._weight < 1.0:
            return Pace()
        call, row = self._line()
        return Pace(((0.0, call), (1.0, call + row)), self._picture_s)

    def observe(self, cost: float, pictures: float, seconds: float, decode_s: float) -> None:
        """A round of this cost was run, and so many pictures were decoded in it, parts counted."""
        if pictures:
            share = decode_s / pictures
            self._picture_s += 0.1 * (share - self._picture_s) if self._picture_s else share
        if cost <= 0:
            return
        rows_s = max(0.0, seconds - decode_s)
        for name in ("_weight", "_cost", "_seconds", "_cost2", "_product", "_expected"):
            setattr(self, name, _MEMORY * getattr(self, name))
        self._weight += 1.0
        self._cost += cost
        self._seconds += rows_s
        self._cost2 += cost * cost
        self._product += cost * rows_s
        if self._table is not None:
            self._expected += self._table.round_s(cost)

    @property
    def _factor(self) -> float:
        if self._expected <= 0 or self._weight < _FEW:
            return 1.0
        return min(max(self._seconds / self._expected, _FASTEST), _SLOWEST)

    def _line(self) -> tuple[float, float]:
        """Seconds of a call and of a row, neither below 0; without different costs, half of it is the call's."""
        mean = self._cost / self._weight
        seconds = self._seconds / self._weight
        spread = self._cost2 / self._weight - mean * mean
        if spread < 0.01 * mean * mean:
            return 0.5 * seconds, 0.5 * seconds / mean
        row = max(0.0, (self._product / self._weight - mean * seconds) / spread)
        row = min(row, seconds / mean)
        return max(0.0, seconds - row * mean), row
