"""What the supervisor and the engine's process say to one another. Times are on the machine's monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from headrace.errors import HeadraceError
from headrace.service.events import Pixels
from headrace.service.model_card import ModelCard
from headrace.service.settings import ServiceSettings
from headrace.service.status import RoundSeen
from headrace.service.wish import Wish
from headrace.serving.latency_table import LatencyTable

# -- to the engine's process ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Begin:
    """The first message: what to load. `table` is what an earlier start measured."""

    settings: ServiceSettings
    table: LatencyTable | None = None


@dataclass(frozen=True)
class Submit:
    """A wish to work on, from its snapshot on where there is one. Previews below `previews` were shown before."""

    ticket: str
    wish: Wish
    submitted: float
    deadline: float | None
    snapshot: bytes | None
    previews: int
    checkpoint_rows: int


@dataclass(frozen=True)
class Drop:
    """A wish is not to be worked on any more. The process answers `Dropped` unless it said before that it is over."""

    ticket: str


@dataclass(frozen=True)
class Stop:
    """End; whatever is there is dropped."""


# -- from the engine's process ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ready:
    """The model is loaded. `policy` is its name in words; `table` what the forecast goes by."""

    card: ModelCard
    policy: str
    table: LatencyTable | None


@dataclass(frozen=True)
class Broken:
    """The process cannot start, for a reason that it knows."""

    error: HeadraceError


@dataclass(frozen=True)
class Planned:
    """A wish was checked and planned: `rows` of this size, of which `guided` evaluate both branches."""

    ticket: str
    rows: int
    guided: int
    size: tuple[int, int]


@dataclass(frozen=True)
class Entered:
    """These wishes get a slot in the round that now begins."""

    tickets: tuple[str, ...]


@dataclass(frozen=True)
class Shown:
    """A preview."""

    ticket: str
    index: int
    row: int
    rows: int
    pixels: Pixels


@dataclass(frozen=True)
class Saved:
    """A wish's snapshot after `row` rows, as only the engine's process reads it."""

    ticket: str
    row: int
    snapshot: bytes


@dataclass(frozen=True)
class Made:
    """The pictures of a wish, and when it got a slot and had its last row in this process."""

    ticket: str
    pictures: tuple[Pixels, ...]
    started: float | None
    denoised: float | None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fell:
    """A wish was refused, or failed alone."""

    ticket: str
    error: HeadraceError


@dataclass(frozen=True)
class Dropped:
    """A wish was dropped before it was over."""

    ticket: str


@dataclass(frozen=True)
class Turned:
    """A round was run."""

    seen: RoundSeen


@dataclass(frozen=True)
class Beat:
    """A sign of life: when the main thread was last seen at work, whether it has any, and what the process takes."""

    at: float
    moved: float
    busy: bool
    memory_bytes: int
    max_rows: int


ToEngine = Begin | Submit | Drop | Stop
FromEngine = Ready | Broken | Planned | Entered | Shown | Saved | Made | Fell | Dropped | Turned | Beat
