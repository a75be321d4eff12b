"""Durations of rounds from a latency table, looked up once for each different round."""

from __future__ import annotations

from typing import NamedTuple

from headrace.serving.latency_table import LatencyTable
from headrace.serving.state import Size

_PARTS = 64  # of a chunk: a finer difference of loads makes none that a table's interpolation would show
_REMEMBERED = 500_000  # rounds


class RoundDuration(NamedTuple):
    """Seconds of one round.

    Attributes:
        unet_s: until its rows are done.
        alone_s: until they would be without decodings.
        vae_s: until its decodings are done, if nothing else starts.
        done: share of the decodings that is done when the rows are; 0 where there are no rows.
    """

    unet_s: float
    alone_s: float
    vae_s: float
    done: float

    def moment(self, share: float) -> float:
        """Seconds until so large a share of the decodings is done, next to the rows and, after them, alone."""
        if share <= self.done:
            return min(self.unet_s, self.vae_s) * share / self.done
        if self.done >= 1:
            return self.vae_s
        return self.unet_s + (self.vae_s - self.unet_s) * (share - self.done) / (1 - self.done)

    def share(self, elapsed: float) -> float:
        """Share of the decodings that is done so many seconds after the start."""
        if elapsed >= self.vae_s:
            return 1.0
        if elapsed <= 0:
            return 0.0
        if elapsed <= self.unet_s:
            return self.done * elapsed / min(self.unet_s, self.vae_s)
        return self.done + (1 - self.done) * (elapsed - self.unet_s) / (self.vae_s - self.unet_s)


class RoundDurations:
    """A latency table with a memory. Loads are rounded to 64ths of a chunk."""

    def __init__(self, table: LatencyTable) -> None:
        self._table = table
        self._known: dict[object, RoundDuration] = {}

    def row_alone_s(self, size: Size) -> float:
        """Seconds of one guided row alone."""
        return self._table.round_s({size: (1, 0)}, {})[0]

    def decoding_alone_s(self, size: Size) -> float:
        """Seconds of one whole decoding alone."""
        return self._table.round_s({}, {size: 1})[1]

    def __call__(self, groups: dict[Size, tuple[int, int]], decodings: dict[Size, float], chunks: int) -> RoundDuration:
        """`groups`: (rows, rows that evaluate one branch) of each size; `decodings`: chunks, `chunks` to a decoding."""
        loads = {size: max(1, round(load * _PARTS)) / _PARTS for size, load in decodings.items()}
        key = (*sorted(groups.items()), chunks, *sorted(loads.items()))
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            found = self._known[key] = self._look_up(dict(sorted(groups.items())), loads, chunks)
        return found

    def _look_up(self, groups: dict[Size, tuple[int, int]], loads: dict[Size, float], chunks: int) -> RoundDuration:
        unet_s, vae_s = self._table.round_s(groups, loads, chunks)
        if not loads:
            return RoundDuration(unet_s, unet_s, 0.0, 1.0)
        alone_s = self._table.round_s(groups, {}, chunks)[0]
        if vae_s <= unet_s:
            return RoundDuration(unet_s, alone_s, vae_s, 1.0)
        left = (vae_s - unet_s) / self._table.round_s({}, loads, chunks)[1] if groups else 1.0
        return RoundDuration(unet_s, alone_s, vae_s, max(0.0, 1 - left))
