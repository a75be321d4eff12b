"""Points in time that can be told apart without waiting for the device."""

from __future__ import annotations

import time

import torch


class Moment:
    """Now: on a CPU the host's clock; on CUDA the point in the current stream, which the device may come to later."""

    def __init__(self, device: torch.device) -> None:
        self._host = time.perf_counter()
        self._event: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            self._event.record(torch.cuda.current_stream(device))

    @property
    def passed(self) -> bool:
        """Whether the device came by; asked without waiting."""
        return self._event is None or bool(self._event.query())  # type: ignore[no-untyped-call]

    def wait(self) -> None:
        """Waits until the device came by."""
        if self._event is not None:
            self._event.synchronize()

    def since(self, earlier: Moment) -> float:
        """Seconds from an earlier moment of the same device to this one. Waits until the device came by this one."""
        if self._event is None or earlier._event is None:
            return self._host - earlier._host
        self.wait()
        return float(earlier._event.elapsed_time(self._event)) / 1000
