"""Chunks in the engine's own thread and stream: they run when they are started, before the round's rows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from headrace.engine.decoding import ChunkCall
from headrace.engine.lanes.lane import Queued, Running
from headrace.engine.moment import Moment


class InterleavedLane:
    """The lane of a device that gains nothing from two things at once."""

    concurrent = False

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def start(self, calls: Sequence[ChunkCall]) -> list[Running]:
        """Runs the calls; on CUDA queues them in the current stream."""
        started: list[Running] = []
        for call in calls:
            call.run()
            started.append(Queued(call, Moment(self._device)))
        return started

    def beside_rows(self) -> AbstractContextManager[None]:
        """Nothing runs beside the rows."""
        return nullcontext()

    def close(self) -> None:
        """Nothing is kept."""
        return
