"""Finds requests whose latents stopped being finite, without waiting for the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from headrace.engine.slot import Slot


class Health:
    """Flags of a round, copied to the host while the next round runs and read then."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._slots: list[Slot] = []
        self._flags: list[torch.Tensor] = []
        self._event: torch.cuda.Event | None = None

    def record(self, slots: Sequence[Slot], finite: torch.Tensor) -> None:
        """Keeps the [N] flags of slots that a call just moved on."""
        self._slots.extend(slots)
        if self._device.type == "cuda":
            host = torch.empty(finite.shape, dtype=finite.dtype, pin_memory=True)
            host.copy_(finite, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()
            finite = host
        self._flags.append(finite)

    def take(self) -> tuple[list[Slot], list[torch.Tensor], torch.cuda.Event | None]:
        """What was recorded since the last call; read it with `broken`."""
        taken = self._slots, self._flags, self._event
        self._slots, self._flags, self._event = [], [], None
        return taken


def broken(taken: tuple[list[Slot], list[torch.Tensor], torch.cuda.Event | None]) -> list[Slot]:
    """The slots whose latents were not finite."""
    slots, flags, event = taken
    if event is not None:
        event.synchronize()
    if not flags:
        return []
    return [slot for slot, finite in zip(slots, torch.cat(flags).tolist(), strict=True) if not finite]
