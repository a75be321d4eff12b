"""What comes out of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from headrace.engine.round_times import RoundTimes
from headrace.errors import HeadraceError
from headrace.pictures.image import to_image
from headrace.plan.plan import Plan
from headrace.request import Request


@dataclass(frozen=True)
class Result:
    """One request's picture (or pictures), or the error that it alone failed with.

    Attributes:
        number: the ticket that `Engine.submit` gave.
        request: as submitted.
        plan: the rows that were executed, with every decision on record.
        settings: solver, steps, guidance scale, height and width as resolved from the model's defaults. Where rows
            shared evaluations of the network, "fusion_rows" is the K that each was evaluated with: a short group may
            have fallen back to a smaller K than `plan` says; "padded_rows" are those whose group was padded.
        pixels: uint8 [H, W, channels], or None where `error` is set.
        others: of a model that makes several pictures of one request's latents (`Pipeline.pictures`), those behind the
            first, each uint8 [H, W, channels].
    """

    number: int
    request: Request
    plan: Plan
    settings: Mapping[str, object] = field(default_factory=dict)
    pixels: npt.NDArray[np.uint8] | None = None
    error: HeadraceError | None = None
    others: tuple[npt.NDArray[np.uint8], ...] = ()

    @property
    def image(self) -> Image.Image:
        """The picture, the first of several. Raises the request's own error where it failed."""
        return self.images[0]

    @property
    def images(self) -> list[Image.Image]:
        """All pictures, most often one. Raises the request's own error where it failed."""
        if self.error is not None:
            raise self.error
        assert self.pixels is not None
        return [to_image(pixels) for pixels in (self.pixels, *self.others)]


@dataclass(frozen=True)
class RoundReport:
    """What one round of the engine did.

    Attributes:
        rows: plan rows that were evaluated.
        network_rows: the same, both guidance branches counted, without what pads groups.
        body_rows: evaluations of the part of the network that fused rows share: one a group and branch, padded or not.
            Where nothing is fused, `network_rows`.
        calls: network calls.
        finished: requests whose picture was made, or failed.
        waiting: requests without a slot when it ended.
        resident: requests in a slot when it ended.
        chunks: decoder chunks that were begun, one for each request.
        chunks_ended: chunks that ended and were taken in, of this round or of earlier ones.
        admitted: tickets that got a slot, in that order.
        finished_tickets: those of `finished`.
        times: when its parts began and ended.
        moved: tickets whose row was evaluated, one each of `rows`.
    """

    rows: int = 0
    network_rows: int = 0
    body_rows: int = 0
    calls: int = 0
    finished: int = 0
    waiting: int = 0
    resident: int = 0
    chunks: int = 0
    chunks_ended: int = 0
    admitted: tuple[int, ...] = ()
    finished_tickets: tuple[int, ...] = ()
    times: RoundTimes | None = None
    moved: tuple[int, ...] = ()

    @property
    def unet_s(self) -> float:
        """Seconds from the round's begin, admission over, until its rows are done; 0 without rows.

        Reading it waits for the device.
        """
        return 0.0 if self.times is None else self.times.unet_s

    @property
    def decode_s(self) -> float:
        """Seconds from the round's begin until the last chunk that it began is done; 0 without chunks.

        Reading it waits for the chunks, which may run on over later rounds.
        """
        return 0.0 if self.times is None else self.times.decode_s


@dataclass(frozen=True)
class Progress:
    """How far `Engine.generate` is: finished requests and plan rows, of how many."""

    finished: int
    total: int
    rows_done: int
    rows_total: int
