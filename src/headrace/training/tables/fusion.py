"""What phases that can compute several pictures as one have in common."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from headrace.training.tables.loop import LoopTable
from headrace.training.tables.table import Table


class FusedPhase(Table):
    """A phase whose network may take groups of K pictures in place of single ones (FuseBatch, section 3).

    A step costs about 1/K of that of single pictures, for the same `batch_size`: with `max_minutes` in place of a
    number of steps, networks of every K learn for the same time, as in the paper.
    """

    loop: LoopTable
    fusion: int = Field(1, ge=1, description="pictures that share one evaluation, K; loop.batch_size is a multiple")
    fusion_kernel: Literal[3, 5, 7] = Field(3, description="kernel of the convolutions that fuse them")

    @field_validator("fusion")
    @classmethod
    def _divides_the_batch(cls, fusion: int, info: ValidationInfo) -> int:
        loop = info.data.get("loop")
        if loop is not None and loop.batch_size % fusion:
            raise ValueError(f"loop.batch_size is {loop.batch_size}, which is not a multiple of it")
        return fusion

    @field_validator("fusion_kernel")
    @classmethod
    def _fuses_something(cls, kernel: int, info: ValidationInfo) -> int:
        if kernel != 3 and info.data.get("fusion") == 1:
            raise ValueError("there is nothing to fuse where fusion is 1")
        return kernel
