"""Chunks in a second CUDA stream beside the rows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from headrace.engine.decoding import ChunkCall
from headrace.engine.lanes.lane import Queued, Running
from headrace.engine.moment import Moment


class StreamsLane:
    """One stream, in which calls run in the order of their start. The host queues them and waits for none.

    Towards the chunks, the stream waits for what the engine's stream was given before: the latents are final. Back,
    nothing of a chunk is read in the engine's stream: its picture is copied to the host in the lane's stream, and the
    host takes it when the event behind the copy has passed. Memory that one stream has and the other reads is marked
    with `record_stream`, so that it is not given out again too early.
    """

    concurrent = True

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def start(self, calls: Sequence[ChunkCall]) -> list[Running]:
        """Queues the calls."""
        started: list[Running] = []
        if not calls:
            return started
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for call in calls:
                self._mark(call)
                call.run()
                started.append(Queued(call, Moment(self._device)))
        return started

    def _mark(self, call: ChunkCall) -> None:
        """Latents are of the engine's stream, and so is the state of a decoding that begins."""
        for slot in call.slots:
            slot.latents.record_stream(self._stream)

    def beside_rows(self) -> AbstractContextManager[None]:
        """Rows run in the engine's stream."""
        return nullcontext()

    def close(self) -> None:
        """Waits for what is queued."""
        self._stream.synchronize()
