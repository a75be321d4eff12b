"""What a tuning found, as a file: settings, all that carrying them out needs, and what they are expected to bring."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from headrace.artefact import SolverArtefact
from headrace.errors import ArtefactError, CalibrationError, HeadraceWarning
from headrace.models.pipelines.base import Pipeline
from headrace.models.pipelines.fingerprint import pipeline_fingerprint
from headrace.plan import Plan
from headrace.techniques.block_caching.artefact import solver_identity
from headrace.techniques.block_caching.network import BlockCache, enable, schedulable_blocks
from headrace.techniques.block_caching.schedule import Schedule
from headrace.tuning.accelerated import Decide, attach
from headrace.tuning.interval import Interval
from headrace.tuning.settings import Settings


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class CacheSchedule(_Part):
    """A block cache's schedule: `compute` has a text a row, a letter a block: # evaluated, . reused."""

    blocks: tuple[str, ...] = Field(min_length=1, description="module paths of the cached blocks")
    timesteps: tuple[float, ...] = Field(min_length=2, description="of each row")
    compute: tuple[str, ...] = Field(description="a text a row, a letter a block")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if any(len(line) != len(self.blocks) or set(line) - set("#.") for line in self.compute):
            raise ValueError("compute does not fit the blocks")
        try:
            _ = self.schedule
        except CalibrationError as error:
            raise ValueError(error.problem) from None
        return self

    @property
    def schedule(self) -> Schedule:
        """As techniques know it."""
        return Schedule.of_letters(self.blocks, self.timesteps, self.compute)

    @classmethod
    def of(cls, schedule: Schedule) -> Self:
        """The file's form."""
        return cls(blocks=schedule.blocks, timesteps=tuple(schedule.timesteps.tolist()), compute=schedule.letters)


class Expectation(_Part):
    """What settings bring, measured on so many prompts."""

    pictures: int = Field(ge=1, description="one a prompt")
    speedup: Interval = Field(description="times as fast as the baseline's plain sampling, in turns with it")
    quality: Interval = Field(description="in the artefact's metric")
    figures: dict[str, float] = Field(default_factory=dict, description="what else was measured, by name")


class FrontPoint(_Part):
    """One of the best trades that the search found."""

    settings: Settings
    expected: Expectation
    macs_share: float | None = Field(
        default=None, gt=0, description="operations of a picture over the baseline's, counted"
    )


class AccelerationArtefact(SolverArtefact):
    """The settings that were chosen, and what they were chosen from."""

    KIND: ClassVar[str] = "acceleration"

    settings: Settings = Field(description="that are carried out")
    baseline: Settings = Field(description="plain sampling, which speed-ups are relative to")
    guidance_scale: float = Field(description="classifier-free guidance while measuring")
    schedule: CacheSchedule | None = Field(default=None, description="of the block cache, where the settings have one")
    metric: str = Field(min_length=1, description="what quality is")
    wish: str = Field(description="what was asked for")
    plain_quality: Interval = Field(description="of the baseline on the search's prompts")
    expected: Expectation = Field(description="on the prompts of the search")
    confirmed: Expectation = Field(description="on prompts that the search did not see")
    front: tuple[FrontPoint, ...] = Field(min_length=1, description="the best trades, the slowest first")
    machine: dict[str, str | int] = Field(description="that times were measured on")

    def model_post_init(self, context: Any) -> None:
        """Raises `ArtefactError` where settings cache blocks and there is no schedule for them."""
        super().model_post_init(context)
        if (self.settings.block_saving > 0) != (self.schedule is not None):
            raise ArtefactError("its settings and its schedule do not fit one another", "Tune again")

    @property
    def identity(self) -> str:
        """A digest of what pictures depend on: settings and schedule."""
        schedule = None if self.schedule is None else self.schedule.model_dump()
        text = self.settings.identity + json.dumps(schedule, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class TunedAcceleration:
    """An acceleration that can be attached: what `Engine.from_pretrained(..., acceleration=PATH)` makes of a file."""

    artefact: AccelerationArtefact

    @property
    def identity(self) -> str:
        """What pictures depend on."""
        return self.artefact.identity

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Fields that a request takes over where it leaves them open: the solver and the steps that were tuned."""
        return _defaults(self.artefact.settings.solver, self.artefact.settings.steps)

    def attach(self, pipeline: Pipeline) -> Decide:
        """Puts the techniques on, and returns what fills plans; that warns for plans that nothing was measured on.

        Raises `ArtefactError`, before anything is changed, for an artefact of another model.
        """
        artefact = self.artefact
        check_model(pipeline, artefact)
        schedule = None if artefact.schedule is None else artefact.schedule.schedule
        decide = attach(pipeline, artefact.settings, schedule)

        def checked(plan: Plan) -> Plan:
            check_solver(plan, artefact)
            return decide(plan)

        return checked


@dataclass(frozen=True)
class CachedAcceleration:
    """A block cache's schedule as an acceleration."""

    cache: BlockCache

    @property
    def identity(self) -> str:
        """What pictures depend on."""
        return self.cache.identity

    @property
    def defaults(self) -> Mapping[str, Any]:
        """The solver and the steps that the schedule was measured with."""
        return _defaults(self.cache.artefact.solver_name, self.cache.artefact.steps)

    def attach(self, pipeline: Pipeline) -> Decide:
        """As `headrace.techniques.block_caching.network.enable`."""
        return enable(pipeline, self.cache.artefact, scale_shift=self.cache.scale_shift)


def load_tuned(path: str | Path) -> TunedAcceleration:
    """The acceleration of a file that `headrace tune` wrote. Raises `ArtefactError`."""
    return TunedAcceleration(AccelerationArtefact.load(path))


def load_block_cache(path: str | Path) -> CachedAcceleration:
    """The acceleration of a schedule that `headrace calibrate blocks` wrote. Raises `ArtefactError`."""
    return CachedAcceleration(BlockCache.load(path))


def check_model(pipeline: Pipeline, artefact: AccelerationArtefact) -> None:
    """Raises `ArtefactError` where an acceleration was tuned on another model, or names blocks that this one lacks."""
    found = pipeline_fingerprint(pipeline)
    if found != artefact.weights:
        raise ArtefactError(
            f"the acceleration was tuned on {artefact.model}, weights {artefact.weights}, and this is "
            f"{pipeline.name}, weights {found}",
            "Tune this model: headrace tune",
        )
    if artefact.schedule is not None:
        known = schedulable_blocks(pipeline)
        unknown = [block for block in artefact.schedule.blocks if block not in known]
        if unknown:
            raise ArtefactError(
                f"the acceleration names block {unknown[0]!r}, and {pipeline.name} has none that is called so",
                "Tune this model: headrace tune",
            )


def check_solver(plan: Plan, artefact: AccelerationArtefact) -> None:
    """Warns where a plan's solver or steps are not those that were tuned.

    Raises `ArtefactError` where a block cache's schedule is then none of this solver's.
    """
    own = artefact.settings.solver or artefact.solver.split()[0]
    same = solver_identity(plan) == artefact.solver
    if not same and artefact.schedule is not None:
        raise ArtefactError(
            f"the acceleration was tuned with {own}, and the request's solver is {plan.solver}",
            f"Ask for {own}, or tune with the other solver",
        )
    if not same or plan.steps != artefact.steps:
        warnings.warn(
            f"the acceleration was tuned with {own} in {artefact.steps} steps, and a request has {plan.solver} in "
            f"{plan.steps}: its techniques are applied, but what it expects was not measured so",
            HeadraceWarning,
            stacklevel=2,
        )


def _defaults(solver: str | None, steps: int) -> dict[str, Any]:
    return {"steps": steps} | ({} if solver is None else {"solver": solver})
