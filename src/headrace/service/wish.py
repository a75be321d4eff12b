"""One picture that a caller wants, and how."""

from __future__ import annotations

import math
from dataclasses import dataclass

from headrace.errors import RequestError
from headrace.request import Request

MAX_PREVIEWS = 3


@dataclass(frozen=True)
class Wish:
    """A request and the conditions that it comes with.

    Attributes:
        request: the picture.
        priority: larger goes first; -100 to 100.
        timeout_s: seconds from submission in which the picture must be there; None where there is no hurry.
        previews: how many previews of the data prediction to send on the way, evenly spread over the rows; 0 to 3.
        acceleration: name of one of the model card's accelerations; None for the service's default one, "none" for
            plain sampling.

    Raises `RequestError` for values out of range.
    """

    request: Request
    priority: int = 0
    timeout_s: float | None = None
    previews: int = 0
    acceleration: str | None = None

    def __post_init__(self) -> None:
        if not -100 <= self.priority <= 100:
            raise RequestError("priority", f"priority is {self.priority}", "Give a whole number from -100 to 100")
        if self.timeout_s is not None and not (math.isfinite(self.timeout_s) and self.timeout_s > 0):
            raise RequestError("timeout_ms", f"the timeout is {self.timeout_s} s", "Give a time above 0")
        if not 0 <= self.previews <= MAX_PREVIEWS:
            raise RequestError("partial_images", f"{self.previews} previews", f"Ask for 0 to {MAX_PREVIEWS}")
