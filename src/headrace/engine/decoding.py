"""Finished latents to pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from headrace.engine.slot import Slot
from headrace.errors import ExecutionError, HeadraceError, NumericalError
from headrace.models.pipelines.base import LatentShape, Pipeline

Pixels = npt.NDArray[np.uint8]


@dataclass
class _Decoded:
    """Pictures of one decoder call, still on the device: uint8 [N, H, W, channels] and [N] flags."""

    slots: Sequence[Slot]
    pixels: torch.Tensor
    finite: torch.Tensor


def decode(pipeline: Pipeline, slots: Sequence[Slot], batch: int) -> list[tuple[Slot, Pixels | HeadraceError]]:
    """Pixels of each slot, or the error that it alone failed with; one shape is decoded `batch` at a time.

    The host waits for the device once, after the last decoder call was queued.
    """
    by_shape: dict[LatentShape, list[Slot]] = defaultdict(list)
    for slot in slots:
        by_shape[slot.job.shape].append(slot)
    decoded: list[_Decoded] = []
    outcomes: list[tuple[Slot, Pixels | HeadraceError]] = []
    for group in by_shape.values():
        for start in range(0, len(group), batch):
            for result in _decode_together(pipeline, group[start : start + batch]):
                if isinstance(result, _Decoded):
                    decoded.append(result)
                else:
                    outcomes.append(result)
    return outcomes + _fetch(decoded, pipeline.device)


def _decode_together(
    pipeline: Pipeline, slots: Sequence[Slot]
) -> Iterator[_Decoded | tuple[Slot, Pixels | HeadraceError]]:
    latents = torch.stack([slot.latents for slot in slots])
    try:
        yield _Decoded(slots, pipeline.decode(latents), torch.isfinite(latents.flatten(1).sum(1)))
    except Exception as error:
        if len(slots) == 1:
            yield slots[0], execution_error("decoder", error)
            return
        middle = len(slots) // 2
        yield from _decode_together(pipeline, slots[:middle])
        yield from _decode_together(pipeline, slots[middle:])


def _fetch(decoded: Sequence[_Decoded], device: torch.device) -> list[tuple[Slot, Pixels | HeadraceError]]:
    on_host = [(part.pixels.to("cpu", non_blocking=True), part.finite.to("cpu", non_blocking=True)) for part in decoded]
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
    outcomes: list[tuple[Slot, Pixels | HeadraceError]] = []
    for part, (pixels, finite) in zip(decoded, on_host, strict=True):
        for slot, picture, good in zip(part.slots, pixels.numpy(), finite.tolist(), strict=True):
            outcomes.append((slot, picture if good else not_finite(slot)))
    return outcomes


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
