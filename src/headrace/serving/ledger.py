"""What replicas write down while they serve: moments and skips of each request, and where the time went."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from headrace.serving.report import Counts, Floats, Records
from headrace.serving.trace import Trace


@dataclass
class Effort:
    """Where the time of all replicas went.

    Attributes:
        rounds, rows: that ran.
        unet_s: seconds of the rounds' rows; `unet_alone_s` what the same rows would have taken without decodings.
        beside_s, beside_alone_s: the same of the rounds that had decodings beside their rows.
    """

    rounds: int = 0
    rows: int = 0
    unet_s: float = 0.0
    unet_alone_s: float = 0.0
    beside_s: float = 0.0
    beside_alone_s: float = 0.0

    @property
    def unet_kept(self) -> float:
        """UNet throughput beside decodings, as a share of that of the same rows alone (figure 14); 1 where none ran."""
        return self.beside_alone_s / self.beside_s if self.beside_s else 1.0

    @property
    def unet_kept_overall(self) -> float:
        """The same over all rounds, with decodings or without."""
        return self.unet_alone_s / self.unet_s if self.unet_s else 1.0


@dataclass
class Ledger:
    """By ticket, [N]: seconds, NaN until it happens; skipped rows, and the progress at the first of them."""

    started: Floats
    denoised: Floats
    finished: Floats
    skips: Counts
    first_skip: Floats
    effort: Effort = field(default_factory=Effort)

    @classmethod
    def empty(cls, count: int) -> Ledger:
        """Nothing has happened to `count` requests."""
        started, denoised, finished, first_skip = (np.full(count, np.nan) for _ in range(4))
        return cls(started, denoised, finished, np.zeros(count, dtype=np.int64), first_skip)

    def records(self, trace: Trace) -> Records:
        """Once every request of the trace is finished."""
        return Records(
            trace.time, self.started, self.denoised, self.finished, trace.steps, self.skips, self.first_skip,
            trace.deadline,
        )  # fmt: skip
