"""A cache schedule with all that it was made from, as a file: measured once, cut at another threshold any time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

import numpy as np
from pydantic import Field

from headrace.artefact import SolverArtefact
from headrace.errors import ArtefactError, CalibrationError
from headrace.models.blocks import Kind
from headrace.plan import Plan
from headrace.techniques.block_caching.calibrate import Profile, Work
from headrace.techniques.block_caching.displacement import Displacement
from headrace.techniques.block_caching.schedule import (
    Floats,
    Schedule,
    check_delta,
    check_target,
    for_saving,
    from_change,
    most_saving,
    saving,
    together_for_saving,
)

DEFAULT_DELTA = 0.5  # section 4.2: a speed-up of 1.5, and the best pictures

Cached = Literal["transformer", "resnet", "all", "branch"]
Criterion = Literal["change", "displacement"]
_Changes = tuple[tuple[Annotated[float, Field(ge=0)], ...], ...]


@dataclass(frozen=True)
class Choice:
    """Which schedule is wanted of a profile: the blocks of a kind, by a threshold or by what is to be saved.

    `delta` is equation 7's (None: 0.5, the paper's), `saving` a share of the network's multiply-accumulates that the
    smallest sufficient threshold is searched for. `criterion` is what limits reuse: "change" is the paper's
    (equations 6 and 7, a schedule for each block), "displacement" lets all blocks reuse in the same rows, those that
    displace the latents least (`headrace.techniques.block_caching.displacement`); it has no threshold, only a saving.
    Raises `CalibrationError` for delta and saving at once, or values out of range.
    """

    kind: Cached = "transformer"
    delta: float | None = None
    saving: float | None = None
    criterion: Criterion = "change"

    def __post_init__(self) -> None:
        for name, what, known in (
            ("kind", "blocks", get_args(Cached)),
            ("criterion", "criterion", get_args(Criterion)),
        ):
            if getattr(self, name) not in known:
                raise CalibrationError(f"there is no {getattr(self, name)!r} {what}", f"Choose {', '.join(known)}")
        if self.criterion == "displacement" and self.saving is None:
            raise CalibrationError(
                "displacement has no threshold: the best rows for a wanted saving are searched",
                "Say what is to be saved: saving, such as 0.3",
            )
        if self.delta is not None and self.saving is not None:
            raise CalibrationError("a threshold and a saving were both given", "Give delta or saving")
        if self.delta is not None:
            check_delta(self.delta)
        if self.saving is not None:
            check_target(self.saving)


class BlockCacheArtefact(SolverArtefact):
    """What `headrace calibrate blocks` found: the profile of all blocks, and the schedule of those that are cached."""

    KIND: ClassVar[str] = "block cache schedule"

    solver_name: str | None = Field(description="as a request names it; None: the model's own")
    guidance_scale: float = Field(description="classifier-free guidance while measuring")
    images: int = Field(ge=1, description="trajectories that the change is the mean of")
    criterion: Criterion = Field("change", description="what limits reuse: a block's change, or the displacement")
    delta: float = Field(
        ge=0,
        description="change: what a reused value may have accumulated (equation 7); displacement: root of the summed "
        "squares over the rows that reuse",
    )
    saving: float = Field(ge=0, lt=1, description="share of the network's multiply-accumulates that is left out")
    blocks: tuple[str, ...] = Field(min_length=1, description="module paths of the cached blocks")
    timesteps: tuple[float, ...] = Field(min_length=2, description="of each row")
    compute: tuple[str, ...] = Field(description="a text a row, a letter a block: # evaluated, . reused")
    profiled: tuple[str, ...] = Field(min_length=1, description="module paths of all measured blocks")
    kinds: tuple[Kind, ...] = Field(description="of all measured blocks")
    macs: tuple[Annotated[int, Field(ge=0)], ...] = Field(description="of all measured blocks, one row")
    network_macs: int = Field(ge=1, description="of the whole network, one row")
    change: _Changes = Field(description="relative L1 change from row to row, a list a row, a number a block")
    deviation: _Changes = Field(description="its standard deviation over images")
    displaced: tuple[str, ...] = Field((), description="module paths of the blocks that reused together; may be empty")
    displacement: _Changes = Field(
        (), description="of the latents, a list a row from the second, a number for each row that the values are old"
    )

    def model_post_init(self, context: Any) -> None:
        """Raises `ArtefactError` where lists do not fit one another."""
        super().model_post_init(context)
        rows, blocks = len(self.timesteps), len(self.profiled)
        shapes = {
            "compute": (self.compute, rows, len(self.blocks)),
            "change": (self.change, rows - 1, blocks),
            "deviation": (self.deviation, rows - 1, blocks),
        }
        if self.displacement:
            shapes["displacement"] = (self.displacement, rows - 1, len(self.displacement[0]))
        for name, (lines, height, width) in shapes.items():
            if len(lines) != height or any(len(line) != width for line in lines):
                raise ArtefactError(f"{name} is not {height} x {width}", "Calibrate again; the file was changed")
        named = {*self.blocks, *self.displaced}
        if not len(self.kinds) == len(self.macs) == blocks or not named <= set(self.profiled):
            raise ArtefactError("its blocks do not fit one another", "Calibrate again; the file was changed")
        if set("".join(self.compute)) - set("#."):
            raise ArtefactError("compute has other letters than # and .", "Calibrate again; the file was changed")
        try:
            _ = self.schedule
        except CalibrationError as error:
            raise ArtefactError(error.problem, error.remedy) from None

    @property
    def schedule(self) -> Schedule:
        """Which rows evaluate which blocks."""
        return Schedule.of_letters(self.blocks, self.timesteps, self.compute)

    @property
    def identity(self) -> str:
        """A digest of what pictures made with this schedule depend on: which rows evaluate which blocks."""
        return hashlib.sha256("\n".join([*self.blocks, *self.compute]).encode()).hexdigest()[:16]

    @property
    def profile(self) -> Profile:
        """What was measured."""
        work = Work(self.profiled, self.kinds, self.macs, self.network_macs)
        return Profile(work, np.array(self.timesteps), np.array(self.change), np.array(self.deviation), self.images)

    @classmethod
    def build(cls, profile: Profile, choice: Choice, displacement: Displacement | None = None, **identity: Any) -> Self:
        """The artefact of a profile and of the schedule that is chosen from it. Raises `CalibrationError`.

        `identity` are the fields that say of what: model, weights, solver, steps, solver_name, guidance_scale.
        """
        work = profile.work
        return cls(
            **identity, **_chosen(profile, displacement, choice), images=profile.images,
            timesteps=tuple(profile.timesteps.tolist()), profiled=work.blocks, kinds=work.kinds, macs=work.macs,
            network_macs=work.network_macs, change=_rows(profile.mean), deviation=_rows(profile.deviation),
            displaced=() if displacement is None else displacement.blocks,
            displacement=() if displacement is None else _rows(displacement.values),
        )  # fmt: skip

    def rebuilt(self, choice: Choice) -> Self:
        """Another schedule from the same profile: nothing is measured again. Raises `CalibrationError`."""
        names = ("model", "weights", "solver", "steps", "solver_name", "guidance_scale")
        known = Displacement(self.displaced, np.array(self.displacement)) if self.displaced else None
        return self.build(self.profile, choice, known, **{name: getattr(self, name) for name in names})


def solver_identity(plan: Plan) -> str:
    """The solver of a plan, as an artefact names it: its class and a digest of its configuration."""
    return f"{plan.solver} {hashlib.sha256(plan.config.encode()).hexdigest()[:12]}"


def choose(profile: Profile, displacement: Displacement | None, choice: Choice) -> tuple[Schedule, float]:
    """The schedule that a choice means, and its `delta` as in an artefact. Raises `CalibrationError`."""
    blocks = cached_blocks(profile.work, choice)
    cost = profile.work.share(blocks)
    if choice.criterion == "displacement" and choice.saving is not None:
        if displacement is None or set(displacement.blocks) != set(blocks):
            raise CalibrationError(
                f"no displacement was measured for {choice.kind} blocks that reuse together",
                f"Measure it: headrace calibrate blocks MODEL --criterion displacement --kind {choice.kind}",
            )
        return together_for_saving(blocks, profile.timesteps, displacement.values, cost, choice.saving)
    change = profile.change(blocks)
    if choice.saving is not None:
        return for_saving(blocks, profile.timesteps, change, cost, choice.saving)
    delta = DEFAULT_DELTA if choice.delta is None else choice.delta
    return from_change(blocks, profile.timesteps, change, delta), delta


def cached_blocks(work: Work, choice: Choice) -> tuple[str, ...]:
    """The blocks of a kind, or all that are no branch. Raises `CalibrationError` where the network has none."""
    if choice.kind == "all":
        return tuple(block for block, kind in zip(work.blocks, work.kinds, strict=True) if kind != "branch")
    return work.of_kind(choice.kind)


def _chosen(profile: Profile, displacement: Displacement | None, choice: Choice) -> dict[str, Any]:
    schedule, delta = choose(profile, displacement, choice)
    blocks = schedule.blocks
    cost = profile.work.share(blocks)
    saved = saving(schedule, cost)
    figures = {
        "evaluated": float(schedule.compute.mean()),
        "most_saving": most_saving(blocks, len(schedule), cost),
        "speedup_bound": 1 / (1 - saved),
    }
    return {
        "blocks": blocks, "compute": schedule.letters, "criterion": choice.criterion, "delta": float(delta),
        "saving": saved, "figures": figures,
    }  # fmt: skip


def _rows(values: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in values.tolist())
