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


@dataclass(frozen=True)
class Load:
    """What is sent, in turns; a turn begins when the one before has been answered."""

    name: str
    turns: Sequence[Sequence[Ask]]


@dataclass(frozen=True)
class Draw:
    """How loads are drawn: `requests` in each of `turns` turns, with `steps` uniform between two bounds."""

    requests: int
    turns: int
    steps: tuple[int, int]
    style: Style

    def load(self, name: str, capacity: float) -> Load:
        """By its name (`LOADS`, `BURST` or `DEADLINES`); `capacity` in pictures a second."""
        mix = Mix(steps=self.steps)
        if name == BURST:
            traces = [burst(self.requests, BURST_LOAD * capacity, mix, seed) for seed in range(self.turns)]
        elif name == DEADLINES:
            hurried = replace(mix, patience=PATIENCE / capacity)
            traces = [poisson(self.requests, DEADLINE_LOAD * capacity, hurried, seed) for seed in range(self.turns)]
        else:
            traces = [poisson(self.requests, LOADS[name] * capacity, mix, seed) for seed in range(self.turns)]
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
