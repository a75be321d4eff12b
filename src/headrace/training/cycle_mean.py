"""The mean of the weights at the ends of cycles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch


class CycleMean:
    """Plain mean of weights, each end of a cycle counting the same (stochastic weight averaging, arXiv:1803.05407).

    What joins is the exponential average that the cycle ended with, where the paper takes the bare weights.
    Statistics of batch norms are no part of it: they have to be measured with the mean's weights.
    `tensors`: the mean, in the order of the parameters, empty before the first end. `ends`: how many have joined.
    """

    def __init__(self) -> None:
        self.tensors: list[torch.Tensor] = []
        self.ends = 0

    @torch.no_grad()
    def add(self, weights: Sequence[torch.Tensor]) -> None:
        """The weights of one more end join."""
        self.ends += 1
        if not self.tensors:
            self.tensors = [tensor.detach().clone() for tensor in weights]
            return
        for mean, tensor in zip(self.tensors, weights, strict=True):
            mean.lerp_(tensor, 1 / self.ends)

    @torch.no_grad()
    def copy_to(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Put the mean into parameters."""
        for parameter, mean in zip(parameters, self.tensors, strict=True):
            parameter.copy_(mean)

    def restore(self, weights: Iterable[torch.Tensor], ends: int) -> None:
        """Go on from a mean of so many ends."""
        self.tensors, self.ends = [tensor.detach().clone() for tensor in weights], ends
