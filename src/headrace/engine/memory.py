"""Running out of memory: how it shows, and what can be given back."""

from __future__ import annotations

import torch

# What torch's CPU allocator and CUDA's libraries say in a plain RuntimeError.
_PHRASES = (
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
)


def out_of_memory(error: BaseException) -> bool:
    """Whether a call raised this because the device, or the host, had no memory left for it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(phrase in message for phrase in _PHRASES)


def give_back(error: BaseException, device: torch.device) -> None:
    """Drops what a call that ran out of memory still holds, before a smaller one is tried.

    The frames of its traceback have the activations that were there; on CUDA torch keeps freed blocks for itself, cut
    as the large call needed them.
    """
    chain: BaseException | None = error
    while chain is not None:
        chain.__traceback__ = None
        chain = chain.__context__
    if device.type == "cuda":
        torch.cuda.empty_cache()
