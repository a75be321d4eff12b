"""The table of a phase that says how long and how fast it learns."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from headrace.training.tables.table import Table


class LoopTable(Table):
    """How long and how fast one phase learns: the same table for every objective."""

    steps: int = Field(ge=1, description="optimiser steps")
    batch_size: int = Field(ge=1, description="pictures computed at a time, on each process")
    gradient_accumulation_steps: int = Field(
        1, ge=1, description="times batch_size that each process takes into one step, one after another"
    )
    cycles: int = Field(
        1, ge=1, description="equal parts, each with a fall of the rate and averaged weights; their mean is exported"
    )
    cycle_decay: float = Field(1.0, gt=0, le=1, description="peak of each cycle, as a fraction of the one before")
    learning_rate: float = Field(gt=0, lt=1, description="peak of the schedule")
    final_learning_rate: float = Field(0.0, ge=0, description="where the cosine ends, as a fraction of its peak")
    warmup_steps: int = Field(100, ge=0, description="steps of linear warm-up, in the first cycle alone")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled decay")
    betas: tuple[float, float] = Field((0.9, 0.99), strict=False, description="AdamW's averaging coefficients")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of the gradient")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="decay a step of the averaged weights; these are exported")
    mixed_precision: Literal["no", "bf16", "fp16"] = Field("bf16", description="autocast type; weights stay float32")
    channels_last: bool = Field(False, description="memory format of the convolutions")
    compile: bool = Field(False, description="torch.compile the objective; minutes at the start, faster on a GPU")
    max_minutes: float | None = Field(None, gt=0, description="ends the phase earlier; the decay follows the clock")
    log_every: int = Field(10, ge=1, description="steps between lines of the log")
    sample_every: int = Field(1000, ge=1, description="steps between sample grids and scores")
    keep_models: bool = Field(
        False, description="keep the model of every sample grid, float16, under models/ of the phase's folder"
    )
    checkpoint_every: int = Field(500, ge=1, description="steps between checkpoints")
    tensorboard: bool = Field(False, description="also log for TensorBoard, with the extra of that name")
    keep_checkpoints: int = Field(2, ge=1, description="older checkpoints are removed")

    @field_validator("cycles")
    @classmethod
    def _has_a_step_each(cls, cycles: int, info: ValidationInfo) -> int:
        if cycles > info.data.get("steps", cycles):
            raise ValueError(f"there are only {info.data['steps']} steps")
        return cycles
