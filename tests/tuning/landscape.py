"""A made-up landscape of cost and quality: what a search is tried on, with its front known by looking everywhere."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np

from headrace.errors import PlanError
from headrace.tuning.interval import Interval
from headrace.tuning.pareto import Point, front
from headrace.tuning.settings import Settings
from headrace.tuning.space import Space
from headrace.tuning.trial import Outcome

BASELINE = Settings(solver="dpm++2m", steps=20)
SPACE = Space(
    BASELINE,
    {
        "solver": ("dpm++2m", "unipc", "ddim"),
        "steps": (20, 16, 12, 8, 5),
        "guidance_share": (1.0, 0.75, 0.5),
        "low_share": (0.0, 0.3, 0.5),
        "low_scale": (0.75, 0.5),
        "deep_interval": (1, 2, 3),
        "cross_share": (1.0, 0.75, 0.5),
    },
)
_LOST_BY_SOLVER = {"dpm++2m": 0.0, "unipc": 0.01, "ddim": 0.05}


def cost(one: Settings) -> float:
    """Steps, cheapened by each technique."""
    own = one.canonical
    guided = (1 + own.guidance_share) / 2
    low = 1 - own.low_share * (1 - own.low_scale**2)
    cached = 0.4 + 0.6 / own.deep_interval - 0.1 * (1 - own.cross_share)
    return own.steps / 20 * guided * low * cached


def quality(one: Settings) -> float:
    """What few steps lose grows fast; techniques lose a little, and two of them together more than each alone."""
    own = one.canonical
    late = 0.02 * (1 - own.guidance_share) + 0.01 * (1 - own.cross_share)
    low = 0.12 * own.low_share**2 * (1 - own.low_scale)
    deep = 0.03 * (own.deep_interval - 1)
    return float(0.95 - _LOST_BY_SOLVER[own.solver] - 0.8 / own.steps**1.3 - late - low - deep - 5 * low * deep)


@cache
def everywhere() -> list[Settings]:
    points = [Settings(**dict(zip(SPACE.values, values, strict=True))) for values in product(*SPACE.values.values())]
    return list({one.identity: one for one in points}.values())


@cache
def true_front() -> list[Point]:
    points = [(cost(one), quality(one)) for one in everywhere()]
    return [points[place] for place in front(points)]


class Landscape:
    """Evaluates settings, with errors that shrink with the number of pictures and are the same for every call.

    `broken` settings raise; `calls` are the measurements that were made.
    """

    def __init__(self, noise: float = 0.0, broken=lambda settings: False, stop_after: int | None = None):
        self.noise = noise
        self.broken = broken
        self.stop_after = stop_after
        self.calls: list[tuple[Settings, int]] = []

    def __call__(self, settings: Settings, pictures: int) -> Outcome:
        if self.stop_after is not None and len(self.calls) == self.stop_after:
            raise KeyboardInterrupt
        self.calls.append((settings, pictures))
        if self.broken(settings):
            raise PlanError(f"{settings.label} cannot be")
        generator = np.random.default_rng([int(settings.identity, 16), pictures])
        error = self.noise * generator.standard_normal(2) / np.sqrt(pictures)
        own = cost(settings) * (1 + error[0]), quality(settings) + error[1]
        return Outcome(cost=Interval.exact(own[0]), quality=Interval.exact(own[1]))
