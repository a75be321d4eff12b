"""Slots and the memory they may take."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from headrace.engine.coefficients import coefficients
from headrace.engine.settings import EngineSettings
from headrace.engine.slot import Job, Slot
from headrace.errors import CapacityError
from headrace.models.pipelines.base import LatentShape, Pipeline
from headrace.plan.plan import Plan

# Registers that a slot of the budget has room for: enough for every multistep solver in common use.
BUDGET_HISTORY = 3


def slot_bytes(shape: LatentShape, history: int) -> int:
    """Bytes of a slot's latents and registers, float32."""
    channels, height, width = shape
    return 4 * channels * height * width * (1 + history)


def cache_bytes(pipeline: Pipeline, sizes: Mapping[float, LatentShape], plan: Plan) -> int:
    """Bytes of what the pipeline's blocks keep for one request of this plan, each value at its largest size."""
    if pipeline.row_cache is None or not plan.blocks:
        return 0
    guided = plan.guidance != 1
    total, counted = 0, np.zeros((2, plan.blocks), np.bool_)
    for scale in sorted(sizes, reverse=True):
        at = plan.scale == scale
        kept = np.stack([plan.keep[at].any(axis=0), plan.keep[guided & at].any(axis=0)]) & ~counted
        total += pipeline.row_cache.nbytes(sizes[scale], kept)
        counted |= kept
    return total


def pool_of(pipeline: Pipeline, settings: EngineSettings) -> Pool:
    """The pool of an engine: a slot has room for a picture of the default size with every cached block kept."""
    shape = pipeline.latent_shape(*pipeline.default_size)
    cache = 0
    if pipeline.row_cache is not None:
        cache = pipeline.row_cache.slot_bytes(shape, 2 if pipeline.guided else 1)
    return Pool(settings.slots, shape, cache, settings.memory_bytes)


class Pool:
    """Resident requests, bounded in number and in bytes of latents, registers and kept block values.

    The budget is `memory_bytes`, or else `slots` requests at the model's default latent shape. Nothing is allocated
    before a request is admitted.
    """

    def __init__(
        self, slots: int, default_shape: LatentShape, cache_bytes: int = 0, memory_bytes: int | None = None
    ) -> None:
        self.slots = slots
        self.slot_bytes = slot_bytes(default_shape, BUDGET_HISTORY) + cache_bytes
        self.budget_bytes = slots * self.slot_bytes if memory_bytes is None else memory_bytes
        self.used_bytes = 0
        self._free = list(range(slots - 1, -1, -1))
        self._resident: dict[int, Slot] = {}
        self._by_ticket: dict[int, Slot] = {}

    def check(self, job: Job) -> None:
        """Raises `CapacityError` where a request could never be admitted."""
        needed = _bytes(job)
        if needed <= self.budget_bytes:
            return
        _, height, width = job.shape
        wanted = f"latents of {height}x{width} need {_mebibytes(needed)}"
        if job.cache_bytes:
            wanted += f", {_mebibytes(job.cache_bytes)} of it for cached blocks,"
        problem = f"{wanted} and the slots of this engine have {_mebibytes(self.budget_bytes)}"
        slots = -(-needed // self.slot_bytes)
        enough = f"slots={slots}" if slots > self.slots else f"memory_bytes={needed}"
        fewer = ", cache fewer blocks or store them as bfloat16" if job.cache_bytes else ""
        raise CapacityError("height", problem, f"Ask for a smaller picture{fewer}, or start the engine with {enough}")

    def reserve(self, job: Job) -> int | None:
        """A slot number for the request, its memory counted; None where it does not fit now."""
        needed = _bytes(job)
        if not self._free or self.used_bytes + needed > self.budget_bytes:
            return None
        self.used_bytes += needed
        return self._free.pop()

    def place(self, slot: Slot) -> None:
        """Makes a slot with a reserved number resident."""
        self._resident[slot.index] = self._by_ticket[slot.job.number] = slot

    def release(self, index: int, job: Job) -> None:
        """Frees a reserved number and everything that is resident there."""
        self._resident.pop(index, None)
        self._by_ticket.pop(job.number, None)
        self._free.append(index)
        self.used_bytes -= _bytes(job)

    def holds(self, slot: Slot) -> bool:
        """Whether this very slot is still resident."""
        return self._resident.get(slot.index) is slot

    def find(self, number: int) -> Slot | None:
        """The resident slot of a ticket."""
        return self._by_ticket.get(number)

    @property
    def resident(self) -> list[Slot]:
        """Resident slots in the order of admission."""
        return list(self._resident.values())

    def __len__(self) -> int:
        return len(self._resident)


def _bytes(job: Job) -> int:
    largest = max(job.sizes.values(), key=math.prod)
    return slot_bytes(largest, coefficients(job.plan).history) + job.cache_bytes


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.3g} MiB"
