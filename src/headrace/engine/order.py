"""What one round of the engine is told to do, and how far a request is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from headrace.errors import OrderError


@dataclass(frozen=True)
class Order:
    """What one `Engine.step` does, by tickets. None stands for everything that can.

    A round's chunks are those of requests that were denoised before it began, so they run beside its rows. With
    `decode` None the round also begins to decode what its own rows finish. Tickets that are gone (finished, failed,
    cancelled) are passed over: they may have gone after the order was made.

    Attributes:
        admit: waiting requests that get a slot, in this order; the first one that does not fit holds the rest back.
        rows: requests that move one row on; those admitted by the same order may be among them.
        decode: denoised requests whose decoding is begun, or moves one chunk on.
        chunks: into how many chunks a decoding is cut that begins in this round, at most what the model allows.
    """

    admit: Collection[int] | None = None
    rows: Collection[int] | None = None
    decode: Collection[int] | None = None
    chunks: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.chunks, int) or isinstance(self.chunks, bool) or self.chunks < 1:
            raise OrderError(f"a decoding is to be cut into {self.chunks!r} chunks", "Give a whole number from 1 on")


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one request is.

    Attributes:
        row: plan rows done, of `rows`.
        guided: whether the row that comes next evaluates both guidance branches; False where none comes.
        chunk: decoder chunks done, of `chunks`; 0 of 0 before decoding begins.
        size: (height, width) of the picture in pixels.
    """

    row: int
    rows: int
    guided: bool
    chunk: int
    chunks: int
    size: tuple[int, int]
