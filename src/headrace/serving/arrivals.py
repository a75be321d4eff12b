"""Arrivals drawn from a seed: Poisson, and bursts of them; of mixed sizes and steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.errors import TraceError
from headrace.serving.state import Size
from headrace.serving.trace import MAX_SIDE, MAX_STEPS, Trace


@dataclass(frozen=True)
class Mix:
    """What drawn requests ask for, each property independently of the others.

    Attributes:
        sizes: (height, width), equally likely; the paper's are 512, 768 and 1024 px.
        steps: fewest and most, uniform between (the paper: 20 to 50).
        guided: share of the requests that use guidance.
        patience: seconds from arrival to the deadline; None for no deadlines.
    """

    sizes: Sequence[Size] = ((512, 512), (768, 768), (1024, 1024))
    steps: tuple[int, int] = (20, 50)
    guided: float = 1.0
    patience: float | None = None

    def __post_init__(self) -> None:
        least, most = self.steps
        if not self.sizes or any(not 8 <= side <= MAX_SIDE for size in self.sizes for side in size):
            raise TraceError(f"sizes are {list(self.sizes)}", f"Give one or more, of 8 to {MAX_SIDE} pixels")
        if not 1 <= least <= most <= MAX_STEPS:
            raise TraceError(f"steps are {least} to {most}", f"Give fewest and most, 1 to {MAX_STEPS}")
        if not 0 <= self.guided <= 1:
            raise TraceError(f"a share of {self.guided} guided requests", "Give 0 to 1")
        if self.patience is not None and not 0 < self.patience < math.inf:
            raise TraceError(f"a deadline {self.patience} seconds after the arrival", "Give more than 0")


def poisson(count: int, rate: float, mix: Mix | None = None, seed: int = 0) -> Trace:
    """`count` requests at independent times, `rate` a second on average; at an infinite rate, all at 0.

    Requests of one seed are the same at every rate, and their times are stretched: rates can be compared request by
    request. Raises `TraceError`.
    """
    _check_count(count)
    _check_rate(rate)
    times, asked = np.random.default_rng(seed).spawn(2)
    return _ask(times.exponential(size=count).cumsum() / rate, mix or Mix(), asked)


def burst(
    count: int, rate: float, mix: Mix | None = None, seed: int = 0, share: float = 0.5, length: float = 0.05
) -> Trace:
    """As `poisson`, but a `share` of the requests comes within a short interval in the middle.

    The others come at `rate` a second; the interval takes `length` of their time (section IV-A1: half of the requests
    "within a concentrated short interval"; its length is not said). Raises `TraceError`.
    """
    _check_count(count)
    _check_rate(rate)
    for name, value in (("share", share), ("length", length)):
        if not 0 < value < 1:
            raise TraceError(f"a burst's {name} is {value}", "Give more than 0 and less than 1")
    times, asked = np.random.default_rng(seed).spawn(2)
    crowd = round(share * count)
    others = times.exponential(size=count - crowd).cumsum() / rate
    span = float(others[-1]) if len(others) else 0.0
    start = 0.5 * span * (1 - length)
    arrivals = np.sort(np.concatenate([others, start + times.random(crowd) * span * length]))
    return _ask(arrivals, mix or Mix(), asked)


def _ask(times: NDArray[np.float64], mix: Mix, generator: np.random.Generator) -> Trace:
    count = len(times)
    sizes = np.asarray(mix.sizes, dtype=np.int64)[generator.integers(len(mix.sizes), size=count)]
    least, most = mix.steps
    return Trace(
        time=times,
        height=sizes[:, 0],
        width=sizes[:, 1],
        steps=generator.integers(least, most + 1, size=count),
        guided=generator.random(count) < mix.guided,
        priority=np.zeros(count, dtype=np.int64),
        deadline=np.full(count, np.inf) if mix.patience is None else times + mix.patience,
    )


def _check_count(count: int) -> None:
    if count < 1:
        raise TraceError(f"a trace of {count} requests", "Ask for at least 1")


def _check_rate(rate: float) -> None:
    if not rate > 0:
        raise TraceError(f"an arrival rate of {rate} requests a second", "Give more than 0")
