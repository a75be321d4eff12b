"""Which lane chunks of decodings run in: measured, not assumed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from headrace.serving.latency_table import Lane
from headrace.serving.measurement import Design, Load, Times

_GAIN = 0.05  # what a lane must be faster by than the first one, which needs nothing beside the engine's own thread


def lane_loads(design: Design) -> tuple[Load, ...]:
    """Rounds that lanes are compared on: few rows and many beside a decoding, whole and in chunks."""
    size, rows = design.sizes[0], dict.fromkeys((1, max(1, max(design.rows) // 2)))
    return tuple(Load(size, u, 1, 0, chunks) for u in rows for chunks in dict.fromkeys((1, max(design.chunks))))


def best_lane(lanes: Sequence[Lane], times: Mapping[tuple[Lane, Load], Times]) -> tuple[Lane, dict[str, float]]:
    """The lane whose rounds are over first, rows and chunks; where that is not the first lane, by a clear margin.

    Also figures: each lane's rounds over the first one's, geometric means, by name.
    """
    first, loads = lanes[0], list(dict.fromkeys(load for _, load in times))
    ratios = {
        lane: statistics.geometric_mean(max(times[lane, load]) / max(times[first, load]) for load in loads)
        for lane in lanes
    }
    best = min(lanes, key=lambda lane: ratios[lane])
    figures = {f"{lane}_over_{first}": ratio for lane, ratio in ratios.items() if lane != first}
    return (best if ratios[best] < 1 - _GAIN else first), figures
