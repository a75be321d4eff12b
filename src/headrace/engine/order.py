"""What one round of the engine is told to do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from headrace.engine.slot import Slot
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


def check_order(order: Order, waiting: Collection[int], resident: Sequence[Slot], in_flight: Collection[int]) -> None:
    """Raises `OrderError` where a request cannot do what it is told now. `waiting` and `in_flight` are tickets."""
    denoised = {slot.job.number: slot.done for slot in resident}
    admitted = waiting if order.admit is None else order.admit
    for number in order.rows or ():
        if number in waiting and number not in admitted:
            raise OrderError(f"a row of request {number} is ordered, which waits", "Admit it in this order")
        if denoised.get(number):
            raise OrderError(f"a row of request {number} is ordered, whose rows are done", "Order its decoding")
    for number in order.decode or ():
        if number in waiting or denoised.get(number) is False:
            raise OrderError(f"a chunk of request {number} is ordered, which has rows left", "Order its rows first")
        if number in denoised and number in in_flight:
            raise OrderError(f"a chunk of request {number} is ordered and another one runs", "Order it afterwards")
