"""What is searched: a list of values for each of the settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.errors import TuningError
from headrace.tuning.settings import Settings

_OFF = 0.4  # how often a drawn technique is off: most combinations of everything at once are of no use


@dataclass(frozen=True)
class Space:
    """A joint grid: a setting's name -> its values in order, next to each other what is alike, the plain one first.

    Settings without values are those of `baseline`. Raises `TuningError` for an unknown name or no values.
    """

    baseline: Settings
    values: Mapping[str, Sequence[Any]]

    def __post_init__(self) -> None:
        for name, choices in self.values.items():
            if name not in Settings.model_fields or not choices:
                raise TuningError(
                    f"{name!r} is to be searched over {list(choices)}",
                    f"Give at least one value to any of {', '.join(Settings.model_fields)}",
                )
            for value in choices:
                Settings.parse({name: value})

    @property
    def size(self) -> int:
        """Points of the grid; some of them mean the same."""
        return math.prod(len(choices) for choices in self.values.values())

    def at(self, **changes: Any) -> Settings:
        """The baseline with these changes, as far as they are values that are searched."""
        known = {name: value for name, value in changes.items() if value in self.values.get(name, ())}
        return self.baseline.model_copy(update=known).canonical

    def sample(self, generator: np.random.Generator) -> Settings:
        """A random point: each setting is plain with a probability of 0.4, or else any of its values."""
        drawn = {}
        for name, choices in self.values.items():
            place = 0 if generator.random() < _OFF else int(generator.integers(len(choices)))
            drawn[name] = choices[place]
        return self.baseline.model_copy(update=drawn).canonical

    def neighbours(self, settings: Settings) -> list[Settings]:
        """The points that differ in one setting, by one place in its list."""
        found: dict[str, Settings] = {}
        for name, choices in self.values.items():
            own = getattr(settings, name)
            place = list(choices).index(own) if own in choices else 0
            for other in (place - 1, place + 1):
                if 0 <= other < len(choices):
                    moved = settings.model_copy(update={name: choices[other]}).canonical
                    found.setdefault(moved.identity, moved)
        found.pop(settings.identity, None)
        return list(found.values())
