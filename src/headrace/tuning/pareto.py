"""Which of several trades between cost and quality are the best: non-dominated sorting with crowding.

After Deb et al. (2002), "A fast and elitist multiobjective genetic algorithm: NSGA-II", sections III A and B.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]  # cost, the less the better, and quality, the more the better


def front(points: Sequence[Point]) -> list[int]:
    """Indices of the points that no other beats in one thing without being worse in the other, cheapest first.

    Of equal points the first is taken.
    """
    best, found = -np.inf, []
    for index in sorted(range(len(points)), key=lambda one: (points[one][0], -points[one][1], one)):
        if points[index][1] > best:
            best = points[index][1]
            found.append(index)
    return found


def layers(points: Sequence[Point]) -> list[list[int]]:
    """The front, the front of what is left without it, and so on: every point is in one."""
    left, found = list(range(len(points))), []
    while left:
        layer = [left[place] for place in front([points[index] for index in left])]
        found.append(layer)
        left = [index for index in left if index not in layer]
    return found


def crowding(points: Sequence[Point]) -> NDArray[np.float64]:
    """[N] how far the neighbours of each point are apart, relative to all; infinite for the outermost.

    `points` are of one layer, in order of cost.
    """
    distances: NDArray[np.float64] = np.full(len(points), np.inf)
    values = np.array(points, dtype=np.float64).reshape(-1, 2)
    spans = np.ptp(values, axis=0) if len(points) else np.ones(2)
    spans = np.where(spans == 0, 1.0, spans)
    for place in range(1, len(points) - 1):
        distances[place] = float((np.abs(values[place + 1] - values[place - 1]) / spans).sum())
    return distances


def survivors(points: Sequence[Point], count: int, prefer: Callable[[Point], Any] | None = None) -> list[int]:
    """Indices of the `count` best: layer by layer, and of the last one those that stand most alone.

    With `prefer`, a third of the places go to the points that it puts highest: they crowd where somebody looks.
    """
    chosen: list[int] = []
    if prefer is not None:
        order = sorted(range(len(points)), key=lambda index: prefer(points[index]), reverse=True)
        chosen = order[: count // 3]
    left = [index for index in range(len(points)) if index not in chosen]
    for layer in layers([points[index] for index in left]):
        layer = [left[place] for place in layer]
        room = count - len(chosen)
        if len(layer) > room:
            alone = crowding([points[index] for index in layer])
            layer = [layer[place] for place in np.argsort(-alone, kind="stable")]
        chosen += layer[:room]
    return chosen


def regret(found: Sequence[Point], known: Sequence[Point], costs: Sequence[float]) -> float:
    """The mean quality that `found` is short of `known` at these costs; 0 where nothing is missing.

    At a cost that nothing found keeps within, all of the known quality is missing. Raises `ValueError` for a cost that
    nothing known keeps within.
    """
    missing = []
    for cost in costs:
        most = max(quality for price, quality in known if price <= cost)
        reached = [quality for price, quality in found if price <= cost]
        missing.append(max(0.0, most - max(reached)) if reached else most)
    return float(np.mean(missing))
