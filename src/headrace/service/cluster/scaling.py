"""How many replicas there should be: from the work that is before them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

CLEAR = "clear_s"  # the name under which replicas report seconds until they are done


def wanted_replicas(clear_s: Iterable[float], running: int, target_s: float) -> int:
    """Replicas that would have all that is there done in `target_s` seconds: the work, in replica-seconds, by that.

    `clear_s`: of each replica that reported, seconds until it should be done. Those that did not (they load their
    model) are counted as without work, as what waits is with the others. One fewer than `running` is enough only where
    they would be done in half that time, so that the number does not swing. At least one.
    """
    work_s = sum(max(0.0, one) for one in clear_s if math.isfinite(one))
    wanted = max(1, math.ceil(work_s / target_s))
    if wanted >= running:
        return wanted
    return min(running, max(1, math.ceil(work_s / (target_s / 2))))


class _Context(Protocol):
    """Of Ray Serve's `AutoscalingContext`, what is looked at."""

    current_num_replicas: int
    aggregated_metrics: Mapping[str, Mapping[Any, float]] | None


class ClearTimePolicy:
    """A policy of Ray Serve's autoscaler: `wanted_replicas`. Bounds and delays are Ray Serve's own."""

    def __init__(self, target_s: float) -> None:
        self._target_s = target_s

    def __call__(self, context: _Context) -> tuple[int, dict[str, Any]]:
        """How many replicas there should be, and no state."""
        metrics = context.aggregated_metrics or {}
        clear_s = metrics.get(CLEAR, {}).values()
        return wanted_replicas(clear_s, context.current_num_replicas, self._target_s), {}
