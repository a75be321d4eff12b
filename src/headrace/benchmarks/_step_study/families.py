"""The ways to make a step cheaper that are set against taking fewer steps, with PostDiff's constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.models.blocks import find_blocks
from headrace.models.pipelines.base import Pipeline
from headrace.tuning.settings import Settings

STEPS, QUICK_STEPS = (5, 8, 10, 15, 20, 30, 40, 50), (5, 10, 20)


@dataclass(frozen=True)
class Family:
    """One setting of the techniques, at any number of steps. `changes`: what differs from plain sampling."""

    name: str
    changes: dict[str, Any] = field(default_factory=dict)

    def settings(self, solver: str | None, steps: int) -> Settings:
        """Of one number of steps."""
        return Settings.parse({"solver": solver, "steps": steps, **self.changes})


PLAIN = Family("plain")
_LOW = {"low_share": 0.5, "low_scale": 0.5}
_GUIDANCE = {"guidance_share": 0.75}
_DEEP = {"deep_interval": 2}
# The constants of the paper: s = 0.5, beta = 0.5, m = 0.75, k = 2 (supplement, appendices B, C and F).
CHEAPER = (
    Family("mixed resolution", _LOW),
    Family("guidance cut-off", _GUIDANCE),
    Family("deep branch reused", _DEEP),
    Family("PostDiff", {**_LOW, **_GUIDANCE, **_DEEP, "cross_share": 0.75}),
)


def families_for(pipeline: Pipeline, quick: bool = False) -> Sequence[Family]:
    """The ways that a model is studied with, `quick`: the last one, everything together, alone.

    A network without cross-attention has none to reuse, which takes nothing from the other techniques.
    """
    chosen = CHEAPER[-1:] if quick else CHEAPER
    if find_blocks(pipeline.network, "cross_attention"):
        return chosen
    return [
        Family(one.name, {key: value for key, value in one.changes.items() if key != "cross_share"}) for one in chosen
    ]
