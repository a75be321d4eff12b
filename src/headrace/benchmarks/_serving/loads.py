"""The loads of the benchmark: arrivals at multiples of a capacity, a burst, deadlines, or a recorded trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from headrace.benchmarks._serving.ask import Ask, Style, asks, at_once, chosen
from headrace.serving.arrivals import Mix, burst, poisson
from headrace.serving.trace import Trace

LOW, MEDIUM, HIGH = "low", "medium", "high"
LOADS = {LOW: 0.5, MEDIUM: 1.0, HIGH: 2.0}  # of the capacity
BURST, BURST_LOAD = "burst", 0.5  # half of the requests at once, the others at this load
DEADLINES, DEADLINE_LOAD, PATIENCE = "deadlines", 1.0, 8.0  # patience in pictures' times at the capacity
RECORDED = "recorded"
LEAST, MOST = 10, 1000  # requests of a turn


@dataclass(frozen=True)
class Load:
    """What is sent, in turns; a turn begins when the one before has been answered."""

    name: str
    turns: Sequence[Sequence[Ask]]


@dataclass(frozen=True)
class Draw:
    """How loads are drawn.

    Attributes:
        seconds: that the arrivals of a turn take, about: a fast server gets more of them than a slow one.
        turns: of each load.
        steps: fewest and most of a request, uniform between.
        style: how requests are written.
    """

    seconds: float
    turns: int
    steps: tuple[int, int]
    style: Style

    def load(self, name: str, capacity: float) -> Load:
        """By its name (`LOADS`, `BURST` or `DEADLINES`); `capacity` in pictures a second."""
        draw, mix = poisson, Mix(steps=self.steps)
        share, crowd = LOADS.get(name, DEADLINE_LOAD), 1
        if name == BURST:
            draw, share, crowd = burst, BURST_LOAD, 2  # as many again come with the burst
        elif name == DEADLINES:
            mix = replace(mix, patience=PATIENCE / capacity)
        count = min(MOST, max(LEAST, round(crowd * share * capacity * self.seconds)))
        traces = [draw(count, share * capacity, mix, seed) for seed in range(self.turns)]
        return Load(name, [asks(trace, self.style) for trace in traces])

    def crowd(self, count: int, turn: int) -> list[Ask]:
        """`count` requests of the same kind, all at once: what a capacity is measured with."""
        return at_once(asks(poisson(count, 1.0, Mix(steps=self.steps), 1000 + turn), self.style))


def recorded(trace: Trace, style: Style) -> Load:
    """A trace as it is, in one turn."""
    return Load(RECORDED, [asks(trace, style)])


def streamed(load: Load, share: float, previews: int) -> list[Ask]:
    """The first turn of a load with a share of its requests streamed: the same pictures, told of otherwise."""
    more = {"stream": True, "partial_images": previews}
    return [
        Ask(ask.at, {**ask.body, **more}, ask.patience_s) if chosen(number, share) else ask
        for number, ask in enumerate(load.turns[0])
    ]
