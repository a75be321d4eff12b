"""What every lane offers to a round."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from headrace.engine.decoding import ChunkCall
from headrace.engine.moment import Moment


class Running(Protocol):
    """A chunk call that was started."""

    @property
    def call(self) -> ChunkCall:
        """What runs."""
        ...

    @property
    def done(self) -> bool:
        """Whether it ended; asked without waiting."""
        ...

    def wait(self) -> Moment:
        """Waits until it ended and returns when that was."""
        ...


@dataclass(frozen=True)
class Queued:
    """A chunk call that the host has made: it ends when the device comes by `ended`."""

    call: ChunkCall
    ended: Moment

    @property
    def done(self) -> bool:
        """As `Running.done`."""
        return self.ended.passed

    def wait(self) -> Moment:
        """As `Running.wait`."""
        self.ended.wait()
        return self.ended


class Lane(Protocol):
    """Runs chunk calls in the order in which they are started. Driven by the engine's thread."""

    @property
    def concurrent(self) -> bool:
        """Whether calls run beside the rows, and on over the rounds that follow."""
        ...

    def start(self, calls: Sequence[ChunkCall]) -> list[Running]:
        """Starts calls; a lane that cannot run beside the rows runs them now."""
        ...

    def beside_rows(self) -> AbstractContextManager[None]:
        """Denoising rows run inside this."""
        ...

    def close(self) -> None:
        """Ends what the lane keeps; calls under way come to their end first."""
        ...
