"""Feedback from the queue to quality: the skip threshold tau and the chunk count (section III-D, last paragraph)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from headrace.errors import ServingError


@dataclass(frozen=True)
class Limits:
    """What the controller may set, and when.

    Attributes:
        tau_min: quality floor: similarity that no skip may go below, 0 to 1.
        tau_max: threshold without load, 0 to 1; 1: only skips that change nothing.
        chunks: chunk count of a decoding without load.
        max_chunks: at most.
        low: requests in the house, as a share of the slots, up to which nothing is raised.
        high: the share at which tau has come down to its floor; as much again, and the chunks are at their most.
        play: how far the pressure may move back and forth, as a share of `high - low`, before settings follow it.
    """

    tau_min: float = 0.9
    tau_max: float = 1.0
    chunks: int = 1
    max_chunks: int = 1
    low: float = 0.25
    high: float = 1.0
    play: float = 0.1

    def __post_init__(self) -> None:
        """Raises `ServingError`."""
        for name in ("tau_min", "tau_max"):
            check_tau(getattr(self, name), name)
        if self.tau_min > self.tau_max:
            raise ServingError(f"tau_min is {self.tau_min}, above tau_max, {self.tau_max}", "Give the floor first")
        if not 1 <= self.chunks <= self.max_chunks:
            raise ServingError(
                f"chunks is {self.chunks} of at most {self.max_chunks}", "Give at least 1 and no more than max_chunks"
            )
        if not (0 <= self.low < self.high and math.isfinite(self.high)):
            raise ServingError(f"low is {self.low} and high {self.high}", "Give low from 0 on and high above it")
        if not 0 <= self.play < 1:
            raise ServingError(f"play is {self.play}", "Give a share from 0 to below 1")


def check_tau(tau: float, name: str = "tau") -> None:
    """Raises `ServingError` unless a similarity threshold is from 0 to 1."""
    if not (isinstance(tau, int | float) and 0 <= tau <= 1):  # NaN as well
        raise ServingError(f"{name} is {tau}", "Give a similarity from 0 to 1")


class Controller:
    """Raises skipping as the queue builds up, then chunking, and takes both back as it drains.

    The pressure is how full the house is, smoothed over rounds, and a little of where that is heading. Each pressure
    has its setting, so under constant load both come to rest where the queue neither grows nor drains; a controller
    that counts up while it grows, and down while it drains, would swing around that point for ever. Hysteresis is
    play, as a gear has it: a pressure that turns back moves nothing at first.
    """

    _SMOOTHING = 0.1  # of the distance to what is seen, each round
    _LEAD = 10.0  # rounds that the trend is followed ahead: as long as smoothing lags behind

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._level = 0.0  # from 1 on tau is at its floor, from 2 on chunks are at their most
        self._seen: float | None = None
        self._trend = 0.0

    @property
    def level(self) -> float:
        """How far settings are raised: 0 at rest, at 1 tau is at its floor, at 2 chunks are at their most."""
        return self._level

    @property
    def tau(self) -> float:
        """The similarity that a picture keeps at least; never below the floor."""
        limits = self.limits
        return max(limits.tau_min, limits.tau_max - min(self._level, 1.0) * (limits.tau_max - limits.tau_min))

    @property
    def chunks(self) -> int:
        """Into how many chunks a decoding that begins is to be cut."""
        limits = self.limits
        return limits.chunks + round(max(0.0, self._level - 1) * (limits.max_chunks - limits.chunks))

    def observe(self, requests: int, slots: int) -> None:
        """Once a round: how many requests are in the house, waiting ones too, and how many slots there are."""
        load = requests / slots
        if self._seen is None:
            self._seen = load
        change = self._SMOOTHING * (load - self._seen)
        self._seen += change
        self._trend += self._SMOOTHING * (change - self._trend)
        limits = self.limits
        pressure = (self._seen + self._LEAD * self._trend - limits.low) / (limits.high - limits.low)
        pressure = min(max(pressure, 0.0), 2.0 + limits.play)
        # Where there is hardly any pressure there is no play upwards: without load nothing stays raised.
        self._level = min(max(self._level, pressure - limits.play), pressure + min(limits.play, pressure))
