"""Slots and the memory they may take."""

from __future__ import annotations

from headrace.engine.coefficients import coefficients
from headrace.engine.slot import Job, Slot
from headrace.errors import CapacityError
from headrace.models.pipelines.base import LatentShape

# Registers that a slot of the budget has room for: enough for every multistep solver in common use.
BUDGET_HISTORY = 3


def slot_bytes(shape: LatentShape, history: int) -> int:
    """Bytes of a slot's latents and registers, float32."""
    channels, height, width = shape
    return 4 * channels * height * width * (1 + history)


class Pool:
    """Resident requests, bounded in number and in bytes of latents and registers.

    The budget is `slots` requests at the model's default latent shape. Nothing is allocated before a request is
    admitted.
    """

    def __init__(self, slots: int, default_shape: LatentShape) -> None:
        self.slots = slots
        self.slot_bytes = slot_bytes(default_shape, BUDGET_HISTORY)
        self.used_bytes = 0
        self._free = list(range(slots - 1, -1, -1))
        self._resident: dict[int, Slot] = {}

    @property
    def budget_bytes(self) -> int:
        """Bytes that all residents together may take."""
        return self.slots * self.slot_bytes

    def check(self, job: Job) -> None:
        """Raises `CapacityError` where a request could never be admitted."""
        needed = _bytes(job)
        if needed > self.budget_bytes:
            slots = -(-needed // self.slot_bytes)
            _, height, width = job.shape
            raise CapacityError(
                "height",
                f"latents of {height}x{width} need the memory of {slots} slots and this engine has {self.slots}",
                f"Ask for a smaller picture, or start the engine with slots={slots}",
            )

    def reserve(self, job: Job) -> int | None:
        """A slot number for the request, its memory counted; None where it does not fit now."""
        needed = _bytes(job)
        if not self._free or self.used_bytes + needed > self.budget_bytes:
            return None
        self.used_bytes += needed
        return self._free.pop()

    def place(self, slot: Slot) -> None:
        """Makes a slot with a reserved number resident."""
        self._resident[slot.index] = slot

    def release(self, index: int, job: Job) -> None:
        """Frees a reserved number and everything that is resident there."""
        self._resident.pop(index, None)
        self._free.append(index)
        self.used_bytes -= _bytes(job)

    def holds(self, slot: Slot) -> bool:
        """Whether this very slot is still resident."""
        return self._resident.get(slot.index) is slot

    @property
    def resident(self) -> list[Slot]:
        """Resident slots in the order of admission."""
        return list(self._resident.values())

    def __len__(self) -> int:
        return len(self._resident)


def _bytes(job: Job) -> int:
    return slot_bytes(job.shape, coefficients(job.plan).history)
