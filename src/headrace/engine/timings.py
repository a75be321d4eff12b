"""Where an engine's time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Part = Literal["network", "decode", "encode", "total"]


class Timings:
    """Seconds spent in network, decoder and text encoder calls, and in all of `Engine.step`.

    On CUDA, calls return before the device is done: the figures are true only with `synchronize`.
    """

    def __init__(self, device: torch.device, synchronize: bool = False) -> None:
        self._device = device
        self._synchronize = synchronize and device.type == "cuda"
        self.reset()

    def reset(self) -> None:
        """Back to zero."""
        self.network_s = 0.0
        self.decode_s = 0.0
        self.encode_s = 0.0
        self.total_s = 0.0

    @contextmanager
    def measure(self, part: Part) -> Iterator[None]:
        """Adds the time of the block to `part`."""
        self._wait()
        start = time.perf_counter()
        try:
            yield
        finally:
            self._wait()
            name = f"{part}_s"
            setattr(self, name, getattr(self, name) + time.perf_counter() - start)

    def _wait(self) -> None:
        if self._synchronize:
            torch.cuda.synchronize(self._device)

    @property
    def overhead_fraction(self) -> float:
        """Share of the total outside network, decoder and text encoder calls; 0 before the first round."""
        if self.total_s == 0.0:
            return 0.0
        return max(0.0, 1.0 - (self.network_s + self.decode_s + self.encode_s) / self.total_s)
