"""What is compared: a solver, its number of steps, and how many pictures."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.engine import Engine
from headrace.models.pipelines.base import Pipeline
from headrace.plan import Plan
from headrace.request import Request

GUIDANCE = 5.0  # section 4.1


@dataclass(frozen=True)
class Setting:
    """All contestants of a comparison start from it. `scale_shift`: whether scale and shift are trained for it."""

    solver: str
    steps: int
    pictures: int
    scale_shift: bool = False

    @property
    def name(self) -> str:
        """For titles and files."""
        return f"{self.solver}-{self.steps}"

    def request(self, prompt: str, seed: int, steps: int | None = None) -> Request:
        """A picture, with another number of steps where one is given."""
        return Request(prompt=prompt, solver=self.solver, steps=steps or self.steps, guidance_scale=GUIDANCE, seed=seed)

    def plan(self, pipeline: Pipeline, steps: int | None = None) -> Plan:
        """The plan of every picture."""
        return Engine(pipeline).plan(self.request("plan", 0, steps))
