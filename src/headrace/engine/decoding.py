"""Finished latents to pixels, whole or chunk by chunk; who cannot be decoded, fails alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from headrace.engine.memory import give_back, out_of_memory
from headrace.engine.slot import Slot
from headrace.errors import ExecutionError, HeadraceError, NumericalError
from headrace.models.pipelines.base import Chunk, LatentShape, Pipeline

Pixels = npt.NDArray[np.uint8]  # [P, H, W, channels] of one request
Outcome = tuple[Slot, Pixels | HeadraceError]


class Decoding:
    """How far the decoding of one request is. It belongs to the request's slot and goes with it.

    `state` is what the next chunk takes: the latents [1, C, h, w] at first, then what the last chunk left, [1, ...].
    """

    def __init__(self, chunks: Sequence[Chunk], latents: torch.Tensor) -> None:
        self.chunks = chunks
        self.done = 0
        self.state = latents[None]


@dataclass(frozen=True)
class _Picture:
    """What a last chunk made of a request, on the host or on its way there, and whether it is sound.

    `pixels` are uint8 [P, H, W, channels]: P = `Pipeline.pictures`, 1 but for fused autoencoders.
    """

    pixels: torch.Tensor
    finite: torch.Tensor


_Result = tuple[Slot, torch.Tensor | _Picture | HeadraceError]


class ChunkCall:
    """The next chunk of slots that are equally far with decodings of one shape: one call of the decoder.

    `run` queues the work on the device and settles nothing; `settle` comes when the device is done with it. A call that
    raises is halved until the slot that makes it fail stands alone; `too_many` is the smallest batch that ran out of
    memory on the way, or None.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.slots: Sequence[Slot] = slots
        self.too_many: int | None = None
        self._results: list[_Result] = []

    @property
    def last(self) -> bool:
        """Whether the call makes pictures."""
        decoding = self.slots[0].decoding
        assert decoding is not None
        return decoding.done + 1 == len(decoding.chunks)

    @torch.inference_mode()
    def run(self) -> None:
        """Calls the decoder, in the current stream of the slots' device."""
        self._results = list(self._together(self.slots, self.last))

    def _together(self, slots: Sequence[Slot], last: bool) -> Iterator[_Result]:
        try:
            results = _called(slots, last)
        except Exception as error:
            failure = error
        else:
            yield from results
            return
        if len(slots) == 1:
            yield slots[0], execution_error("decoder", failure)
            return
        if out_of_memory(failure):
            give_back(failure, slots[0].latents.device)
            self.too_many = min(len(slots), self.too_many or len(slots))
        middle = len(slots) // 2
        yield from self._together(slots[:middle], last)
        yield from self._together(slots[middle:], last)

    def settle(self) -> list[Outcome]:
        """Moves the decodings one chunk on. Returns the pictures of those at their end, and who failed, with what."""
        outcomes: list[Outcome] = []
        for slot, result in self._results:
            decoding = slot.decoding
            assert decoding is not None
            if isinstance(result, HeadraceError):
                outcomes.append((slot, result))
            elif isinstance(result, _Picture):
                outcomes.append((slot, result.pixels.numpy().copy() if bool(result.finite) else not_finite(slot)))
            else:
                decoding.done += 1
                decoding.state = result
        self._results, self.slots = [], ()  # a report that is kept must not keep what they hold
        return outcomes


def calls(slots: Sequence[Slot], batch: int) -> Iterator[ChunkCall]:
    """The next chunks of these slots, equal ones together, `batch` at a time."""
    groups: dict[tuple[LatentShape, int, int], list[Slot]] = defaultdict(list)
    for slot in slots:
        assert slot.decoding is not None
        groups[slot.job.shape, len(slot.decoding.chunks), slot.decoding.done].append(slot)
    for group in groups.values():
        for start in range(0, len(group), batch):
            yield ChunkCall(group[start : start + batch])


def begin(pipeline: Pipeline, slot: Slot, chunks: int) -> None:
    """Gives a slot whose rows are done a decoding of so many chunks, or as many as the model allows."""
    slot.decoding = Decoding(pipeline.decoder_chunks(slot.job.shape, chunks), slot.latents)


def _called(slots: Sequence[Slot], last: bool) -> list[_Result]:
    decodings = [slot.decoding for slot in slots if slot.decoding is not None]
    chunk = decodings[0].chunks[decodings[0].done]
    # Slices and `cat` keep the memory format, on which the last bits of a convolution depend.
    states = decodings[0].state if len(slots) == 1 else torch.cat([decoding.state for decoding in decodings])
    outputs = chunk(states)
    if last:
        return list(zip(slots, _pictures(slots, outputs), strict=True))
    return [(slot, outputs[index : index + 1]) for index, slot in enumerate(slots)]


def _pictures(slots: Sequence[Slot], pixels: torch.Tensor) -> list[_Picture]:
    """`pixels` are [N*P, H, W, channels], the P of a slot together."""
    latents = torch.stack([slot.latents for slot in slots])
    finite = _to_host(torch.isfinite(latents.flatten(1).sum(1)))
    of_slots = _to_host(pixels).reshape(len(slots), -1, *pixels.shape[1:])
    return [_Picture(*parts) for parts in zip(of_slots, finite, strict=True)]


def _to_host(tensor: torch.Tensor) -> torch.Tensor:
    """Without waiting: on CUDA the copy runs in the current stream."""
    if tensor.device.type != "cuda":
        return tensor.cpu()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


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
