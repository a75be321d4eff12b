"""Everything that a tuning decides for a model, as one value."""

from __future__ import annotations

import hashlib
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace.errors import TuningError
from headrace.request import MAX_STEPS
from headrace.techniques.block_caching.artefact import Cached, Criterion


class Settings(BaseModel):
    """Solver, steps, and what each technique is told, off by default; m, s, beta and k are PostDiff's.

    Frozen; unknown names, other types and values out of range are refused. `Settings.parse` raises `TuningError`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    solver: str | None = Field(default=None, description="a name of headrace.models.solvers; None: the model's own")
    steps: int = Field(default=20, ge=1, le=MAX_STEPS, description="inference steps")
    guidance_share: float = Field(
        default=1.0, ge=0, le=1, description="share of the rows after which guidance is dropped (m)"
    )
    low_share: float = Field(
        default=0.0, ge=0, le=1, description="share of the rows, the first ones, at low resolution (s)"
    )
    low_scale: float = Field(default=0.5, gt=0, le=1, description="size of these rows over the final size (beta)")
    deep_interval: int = Field(default=1, ge=1, description="rows from one evaluation of deep branches to the next (k)")
    cross_share: float = Field(
        default=1.0, ge=0, le=1, description="share of the rows after which cross-attention is reused (m)"
    )
    block_saving: float = Field(
        default=0.0, ge=0, lt=1, description="share of the network's operations that a block cache leaves out"
    )
    block_kind: Cached = Field(default="all", description="which blocks it caches")
    block_criterion: Criterion = Field(default="displacement", description="what limits their reuse")

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """Settings from untrusted values. Raises `TuningError` naming the value."""
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            known = cls.model_fields.get(name)
            remedy = f"It is the {known.description}" if known else f"There is {', '.join(cls.model_fields)}"
            raise TuningError(f"{name}: {first.get('input')!r} is not accepted: {first['msg']}", remedy) from None

    @property
    def canonical(self) -> Self:
        """Equal for settings that mean the same: what a technique that is off is told counts for nothing."""
        defaults = type(self)()
        changes: dict[str, Any] = {}
        if self.low_share == 0 or self.low_scale == 1:
            changes |= {"low_share": defaults.low_share, "low_scale": defaults.low_scale}
        if self.block_saving == 0:
            changes |= {"block_kind": defaults.block_kind, "block_criterion": defaults.block_criterion}
        if self.branch_scheduled:
            changes |= {"deep_interval": defaults.deep_interval}
        return self.model_copy(update=changes)

    @property
    def branch_scheduled(self) -> bool:
        """Whether the block cache's schedule decides on the deep branch, so that `deep_interval` says nothing."""
        return self.block_saving > 0 and self.block_kind == "branch"

    @property
    def identity(self) -> str:
        """16 hexadecimal digits: equal exactly for settings that mean the same."""
        return hashlib.sha256(self.canonical.model_dump_json().encode()).hexdigest()[:16]

    @property
    def plain(self) -> bool:
        """Whether every technique is off: solver and steps are all that is left."""
        return self.identity == type(self)(solver=self.solver, steps=self.steps).identity

    @property
    def label(self) -> str:
        """Solver, steps, and what is not off, in a few words."""
        words = [f"{self.solver or 'own solver'} {self.steps}"]
        own = self.canonical
        if own.guidance_share < 1:
            words.append(f"guided {own.guidance_share:g}")
        if own.low_share > 0:
            words.append(f"s {own.low_share:g} at {own.low_scale:g}")
        if own.deep_interval > 1:
            words.append(f"k {own.deep_interval}")
        if own.cross_share < 1:
            words.append(f"m {own.cross_share:g}")
        if own.block_saving > 0:
            words.append(f"{own.block_kind} blocks by {own.block_criterion} {own.block_saving:g}")
        return ", ".join(words)
