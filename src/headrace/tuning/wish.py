"""What a user wants of a tuning: so much speed with the best quality, or so much quality at the highest speed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from headrace.errors import TuningError
from headrace.tuning.pareto import Point
from headrace.tuning.trial import Trial


@dataclass(frozen=True)
class Wish:
    """One of the two. `target_speedup` is times as fast as plain sampling, `min_quality` in the metric of the search.

    Raises `TuningError` for both, neither, a speed-up of less than 1, or a quality outside [0, 1].
    """

    target_speedup: float | None = None
    min_quality: float | None = None

    def __post_init__(self) -> None:
        if (self.target_speedup is None) == (self.min_quality is None):
            count = "neither" if self.target_speedup is None else "both"
            raise TuningError(
                f"{count} of a target speed-up and a least quality were given",
                "Say one of them, such as a speed-up of 2",
            )
        if self.target_speedup is not None and not 1 <= self.target_speedup < math.inf:
            raise TuningError(f"a speed-up of {self.target_speedup} is no target", "Give at least 1")
        if self.min_quality is not None and not 0 <= self.min_quality <= 1:
            raise TuningError(f"a quality of {self.min_quality} is no target", "Give 0 to 1")

    def __str__(self) -> str:
        if self.target_speedup is not None:
            return f"{self.target_speedup:g} times as fast"
        return f"a quality of at least {self.min_quality:g}"

    def preference(self, point: Point) -> tuple[bool, float]:
        """The greater, the nearer to what is wanted: points that grant the wish, and the best of them, come last."""
        cost, quality = point
        if self.target_speedup is not None:
            granted = cost <= 1 / self.target_speedup
            return granted, quality if granted else -cost
        granted = quality >= (self.min_quality or 0.0)
        return granted, -cost if granted else quality

    def choose(self, trials: Sequence[Trial]) -> Trial:
        """Of trials that have outcomes, the one that grants the wish best; of equally good ones the fastest.

        Raises `TuningError` where none does: it says the best there is.
        """
        if self.target_speedup is not None:
            granted = [trial for trial in trials if trial.found.point[0] <= 1 / self.target_speedup]
            if granted:
                return max(granted, key=lambda trial: (trial.found.quality.value, -trial.found.cost.value))
            fastest = min(trials, key=lambda trial: trial.found.cost.value)
            raise TuningError(
                f"nothing that was found is {self}: at most {fastest.found.speedup.value:.2f} times, at a quality of "
                f"{fastest.found.quality.value:.3f}, by {fastest.settings.label}",
                "Ask for less, or search longer",
            )
        granted = [trial for trial in trials if trial.found.quality.value >= (self.min_quality or 0.0)]
        if granted:
            return min(granted, key=lambda trial: trial.found.cost.value)
        finest = max(trials, key=lambda trial: trial.found.quality.value)
        raise TuningError(
            f"nothing that was found has {self}: at most {finest.found.quality.value:.3f}, "
            f"{finest.found.speedup.value:.2f} times as fast, by {finest.settings.label}",
            "Ask for less, or search longer",
        )
