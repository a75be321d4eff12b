"""What becomes of a wish, as it becomes. Times are seconds on `time.monotonic` of the process that is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from headrace.errors import HeadraceError

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Accepted:
    """The engine checked and planned it; from here on it is done or fails alone, whatever happens to the process.

    Attributes:
        rows: of its plan.
        expected_s: seconds until it should be done.
    """

    ticket: str
    rows: int
    expected_s: float


@dataclass(frozen=True)
class Preview:
    """What the picture would be by the data prediction after `row` of `rows` rows. `index` counts from 0.

    A preview that comes again after a fault is not sent twice.
    """

    ticket: str
    index: int
    row: int
    rows: int
    pixels: Pixels  # [H, W, channels]


@dataclass(frozen=True)
class Timing:
    """When a wish was submitted, got a slot, had its last row, was done; `attempts` counts processes that had it."""

    submitted: float
    started: float | None
    denoised: float | None
    finished: float
    attempts: int = 1


@dataclass(frozen=True)
class Finished:
    """The picture, or the several that the model makes of one request; `settings` as in the engine's `Result`."""

    ticket: str
    pictures: tuple[Pixels, ...]  # each [H, W, channels]
    timing: Timing
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """No picture: refused by the engine (`RequestError`, `PlanError`, ...) before `Accepted`, or failed alone later."""

    ticket: str
    error: HeadraceError


Event = Accepted | Preview | Finished | Failed
