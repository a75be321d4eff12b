"""Finished latents to pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from headrace.engine.slot import Slot
from headrace.errors import ExecutionError, HeadraceError, NumericalError
from headrace.models.pipelines.base import LatentShape, Pipeline

Pixels = npt.NDArray[np.uint8]


def decode(pipeline: Pipeline, slots: Sequence[Slot], batch: int) -> Iterator[tuple[Slot, Pixels | HeadraceError]]:
    """Pixels of each slot, or the error that it alone failed with; one shape is decoded `batch` at a time."""
    by_shape: dict[LatentShape, list[Slot]] = defaultdict(list)
    for slot in slots:
        by_shape[slot.job.shape].append(slot)
    for group in by_shape.values():
        for start in range(0, len(group), batch):
            yield from _decode_together(pipeline, group[start : start + batch])


def _decode_together(pipeline: Pipeline, slots: Sequence[Slot]) -> Iterator[tuple[Slot, Pixels | HeadraceError]]:
    latents = torch.stack([slot.latents for slot in slots])
    try:
        finite = torch.isfinite(latents.flatten(1).sum(1))
        pixels = pipeline.decode(latents).cpu().numpy()
    except Exception as error:
        if len(slots) == 1:
            yield slots[0], execution_error("decoder", error)
            return
        middle = len(slots) // 2
        yield from _decode_together(pipeline, slots[:middle])
        yield from _decode_together(pipeline, slots[middle:])
        return
    for slot, picture, good in zip(slots, pixels, finite.tolist(), strict=True):
        yield slot, picture if good else not_finite(slot)


def not_finite(slot: Slot) -> NumericalError:
    """The error of a request whose latents became NaN or infinite."""
    return NumericalError(
        f"the latents of request {slot.job.number} became NaN or infinite by row {slot.row} of {len(slot.table)}",
        "Try float32, another solver or a lower guidance scale",
    )


def execution_error(part: str, error: Exception) -> ExecutionError:
    """What a library raised inside a call, as an error of the one request that caused it."""
    message = str(error).strip().splitlines()
    failure = ExecutionError(
        f"the {part} raised {type(error).__name__}: {message[0] if message else 'no message'}",
        "Check that the size and the settings suit this model",
    )
    failure.__cause__ = error
    return failure
