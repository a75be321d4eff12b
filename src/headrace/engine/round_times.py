"""When the parts of a round began and ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.engine.lanes.lane import Running
from headrace.engine.moment import Moment


@dataclass(frozen=True)
class RoundTimes:
    """Moments of one round; on CUDA they are events, read when somebody asks.

    Attributes:
        begun: admission was over.
        rows_done: None where there were no rows.
        chunks: the calls that the round began.
    """

    begun: Moment
    rows_done: Moment | None
    chunks: Sequence[Running]

    @property
    def unet_s(self) -> float:
        """Seconds from the begin until the rows were done. Waits for the device."""
        return 0.0 if self.rows_done is None else self.rows_done.since(self.begun)

    @property
    def decode_s(self) -> float:
        """Seconds from the begin until the last chunk was done. Waits for it."""
        return max((chunk.wait().since(self.begun) for chunk in self.chunks), default=0.0)
