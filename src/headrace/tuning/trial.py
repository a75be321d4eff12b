"""One trial of a search: settings, measured on so many pictures."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from headrace.tuning.interval import Interval
from headrace.tuning.pareto import Point
from headrace.tuning.settings import Settings


class Outcome(BaseModel):
    """What a measurement found."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    cost: Interval = Field(description="time over that of plain sampling, taken in turns with it")
    quality: Interval = Field(description="in the metric of the search; the more the better")
    figures: dict[str, float] = Field(default_factory=dict, description="what else was measured, by name")

    @property
    def point(self) -> Point:
        """Cost and quality."""
        return self.cost.value, self.quality.value

    @property
    def speedup(self) -> Interval:
        """Times as fast as plain sampling."""
        return self.cost.inverse()


class Trial(BaseModel):
    """Settings and what came of them: an outcome, or the reason why there is none."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    settings: Settings
    pictures: int = Field(ge=1, description="that were made")
    outcome: Outcome | None = None
    fault: str = Field(default="", description="why these settings cannot be measured")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.outcome is None) != bool(self.fault):
            raise ValueError("a trial has an outcome or a fault")
        return self

    @property
    def found(self) -> Outcome:
        """The outcome of a trial that has one."""
        assert self.outcome is not None
        return self.outcome
