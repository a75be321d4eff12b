"""What the blocks of a network added to one request's rows, kept for its later rows."""

from __future__ import annotations

import torch


class SlotCache:
    """The last kept value of each (block, guidance branch) of one request. It goes when the request goes.

    A value that both guidance branches reuse stands at branch 0.
    """

    def __init__(self) -> None:
        self.values: dict[tuple[int, int], torch.Tensor] = {}

    @property
    def nbytes(self) -> int:
        """Bytes that are held now."""
        return sum(value.numel() * value.element_size() for value in self.values.values())
