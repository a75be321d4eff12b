"""Previews: what a picture would be by the data prediction of a row on the way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from headrace.engine.slot import Slot
from headrace.engine.timings import Timings
from headrace.errors import RequestError
from headrace.models.pipelines.base import Pipeline

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Preview:
    """A picture of one request on its way.

    Attributes:
        number: its ticket.
        index: of the preview among those that were asked for, from 0.
        row: plan rows done, of `rows`.
        pixels: uint8 [H, W, channels], of the size of the finished picture; the first of several that a model makes.
    """

    number: int
    index: int
    row: int
    rows: int
    pixels: Pixels


@dataclass(frozen=True)
class Prediction:
    """The data prediction of the row before `row`, [C, h, w] on the device, of that row's size."""

    slot: Slot
    row: int
    data: torch.Tensor


def spread(asked: int | Collection[int], rows: int) -> frozenset[int]:
    """After how many of `rows` rows previews are made: so many, evenly spread, or those that are named.

    None comes after the last row, where the picture itself does, so few rows have few previews. Raises `RequestError`
    for rows that there are not.
    """
    if isinstance(asked, int):
        if asked < 0:
            raise RequestError("previews", f"{asked} previews are asked for", "Ask for 0 or more")
        places = (round(rows * (index + 1) / (asked + 1)) for index in range(asked))
        return frozenset(place for place in places if 0 < place < rows)
    outside = [row for row in asked if not 0 < row <= rows]
    if outside:
        raise RequestError("previews", f"a preview is asked for after row {outside[0]} of {rows}", "Count rows from 1")
    return frozenset(asked)


class Previewer:
    """Decodes the predictions of a round together. What cannot be decoded is left out, and nothing else suffers.

    Runs in the engine's thread, and on CUDA waits for the device: only rounds in which a preview is due pay for it.
    """

    def __init__(self, pipeline: Pipeline, timings: Timings) -> None:
        self.failed = 0  # previews that could not be made
        self._pipeline = pipeline
        self._timings = timings

    def make(self, predictions: Sequence[Prediction], tell: Callable[[Preview], None], most: int) -> None:
        """Hands a preview of each prediction to `tell`, decoded at most so many in one call."""
        alike: dict[torch.Size, list[Prediction]] = defaultdict(list)
        for prediction in predictions:
            alike[prediction.data.shape].append(prediction)
        for group in alike.values():
            for start in range(0, len(group), most):
                batch = group[start : start + most]
                for prediction, pixels in zip(batch, self._decoded(batch), strict=True):
                    if pixels is None:
                        self.failed += 1
                    else:
                        tell(self._preview(prediction, pixels))

    def _decoded(self, batch: Sequence[Prediction]) -> Iterator[Pixels | None]:
        try:
            with self._timings.measure("decode"):
                latents = torch.stack([prediction.data for prediction in batch])
                finite = torch.isfinite(latents.flatten(1).sum(1)).tolist()
                pictures = self._pipeline.decode(latents)
                pixels = pictures.reshape(len(batch), -1, *pictures.shape[1:])[:, 0].cpu().numpy()
        except Exception:
            if len(batch) == 1:
                yield None
                return
            middle = len(batch) // 2
            yield from self._decoded(batch[:middle])
            yield from self._decoded(batch[middle:])
            return
        for one, sound in zip(pixels, finite, strict=True):
            yield one.copy() if sound else None

    def _preview(self, prediction: Prediction, pixels: Pixels) -> Preview:
        job = prediction.slot.job
        height, width = self._pipeline.size(job.request)
        index = sorted(job.previews).index(prediction.row)
        return Preview(job.number, index, prediction.row, len(job.plan), _resized(pixels, height, width))


def _resized(pixels: Pixels, height: int, width: int) -> Pixels:
    """[h, w, channels] to [H, W, channels]."""
    if pixels.shape[:2] == (height, width):
        return pixels
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(pixels[:, :, channel])).resize((width, height)))
        for channel in range(pixels.shape[2])
    ]
    return np.stack(planes, axis=2)
