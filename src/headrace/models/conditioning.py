"""What a network is conditioned on, for one request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

Signature = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Conditioning:
    """The tensors of one request, without a batch dimension: one set for each guidance branch.

    `negative` has the same names and shapes as `positive`; it is None where the model has no
    unconditional branch.
    """

    positive: Mapping[str, torch.Tensor] = field(default_factory=dict)
    negative: Mapping[str, torch.Tensor] | None = None

    @property
    def signature(self) -> Signature:
        """Names and shapes: requests must agree on it to share a network call."""
        return tuple(sorted((name, tuple(tensor.shape)) for name, tensor in self.positive.items()))

    def told(self, conditions: Mapping[str, torch.Tensor]) -> Conditioning:
        """This conditioning with these tensors in place of those of the same names, in both branches."""
        if not conditions:
            return self
        negative = None if self.negative is None else {**self.negative, **conditions}
        return Conditioning({**self.positive, **conditions}, negative)

    @property
    def nbytes(self) -> int:
        """Bytes that both branches hold."""
        branches = [self.positive, self.negative or {}]
        return sum(tensor.numel() * tensor.element_size() for branch in branches for tensor in branch.values())
