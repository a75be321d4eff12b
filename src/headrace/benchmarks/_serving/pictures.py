"""Whether two servers, or one with and without a fault, made the same pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headrace.benchmarks._contestants import pixel_difference
from headrace.benchmarks._serving.outcome import DONE, Outcome


def largest_difference(ours: Sequence[Outcome], theirs: Sequence[Outcome]) -> int | None:
    """In levels of 255, over the requests that both answered; None where there are none. Pictures must be kept."""
    both = [
        number
        for number, pair in enumerate(zip(ours, theirs, strict=True))
        if all(one.kind == DONE and len(one.pictures) == one.asked for one in pair)
    ]
    if not both:
        return None
    found = pixel_difference({n: _pixels(ours[n]) for n in both}, {n: _pixels(theirs[n]) for n in both})
    return int(found["max_pixel_difference"])


def _pixels(outcome: Outcome) -> NDArray[np.uint8]:
    """uint8 [n, H, W, 3]."""
    files = (io.BytesIO(base64.b64decode(picture)) for picture in outcome.pictures)
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
