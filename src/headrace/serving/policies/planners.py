"""Schedules of rows and decodings, planned from a latency table and kept."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np

from headrace.serving.latency_table import LatencyTable
from headrace.serving.schedule import Schedule, StagePlanner
from headrace.serving.state import Size

_ROWS, _DECODINGS, _SKIPS = 16, 8, 8  # the programme's bounds; more rows or skips are planned in units of several
_PLANNERS, _SCHEDULES = 256, 8192  # kept
_WEIGHTS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024)

Key = TypeVar("Key")
Value = TypeVar("Value")


class Kept(OrderedDict[Key, Value]):
    """The most recently used values, so many at most."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def of(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of a key, made where it is missing."""
        if key in self:
            self.move_to_end(key)
            return self[key]
        value = self[key] = make()
        if len(self) > self._most:
            self.popitem(last=False)
        return value


class Work(NamedTuple):
    """What is to be scheduled.

    Attributes:
        size: of the rows.
        chunks: that decodings are cut into.
        rows: at most `most_rows`.
        decodings: at most `most_decodings`.
        skips: how many of the rows may skip.
        scale: decodings of `size` that one of these weighs as much as, on average.
    """

    size: Size
    chunks: int
    rows: int
    decodings: int
    skips: int
    scale: float = 1.0


class Planned(NamedTuple):
    """A schedule in units of so many rows and skips."""

    schedule: Schedule
    row_unit: int
    skip_unit: int


class Planners:
    """Answers are kept by what is asked, so that the same situation is planned once."""

    most_decodings = _DECODINGS

    def __init__(self, table: LatencyTable, eta: float) -> None:
        self._table = table
        self._eta = eta
        self._planners: Kept[object, StagePlanner] = Kept(_PLANNERS)
        self._schedules: Kept[object, Planned] = Kept(_SCHEDULES)

    def plan(self, work: Work, weight: float, split: bool = True) -> Planned:
        """The best schedule where `weight` other tasks wait for the rows; with `split` False the coarsest."""
        weight = _WEIGHTS[min(int(np.searchsorted(_WEIGHTS, weight)), len(_WEIGHTS) - 1)]
        work = work._replace(scale=2 ** (round(4 * math.log2(work.scale)) / 4))  # at most 9% off, and seldom a new one
        return self._schedules.of((work, weight, split), lambda: self._plan(work, weight, split))

    def _plan(self, work: Work, weight: float, split: bool) -> Planned:
        row_unit, skip_unit = _unit(work.rows, _ROWS), _unit(work.skips, _SKIPS)
        key = work.size, work.chunks, work.scale, row_unit, skip_unit
        planner = self._planners.of(key, lambda: self._planner(*key))
        counts = -(-work.rows // row_unit), work.decodings, min(work.skips // skip_unit, -(-work.rows // row_unit))
        schedule = planner.plan(*counts, self._eta, weight) if split else planner.coarsest(*counts)
        return Planned(schedule, row_unit, skip_unit)

    def _planner(self, size: Size, chunks: int, scale: float, row_unit: int, skip_unit: int) -> StagePlanner:
        rows, decodings, skips = np.ix_(
            np.arange(_ROWS + 1) * row_unit,
            np.arange(_DECODINGS + 1) * scale,
            np.arange(_SKIPS + 1) * skip_unit,
        )
        skips = np.minimum(skips, rows)
        return StagePlanner(
            self._table.unet_s(size, rows, decodings, skips, chunks),
            self._table.vae_s(size, rows, decodings, skips, chunks),
        )


def _unit(count: int, most: int) -> int:
    return max(1, -(-count // most))
