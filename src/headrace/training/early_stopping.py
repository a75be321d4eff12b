"""Networks that stop learning when their held-out loss no longer falls, each by itself (Multistage, table 3: ES)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

_RUNNING = -1


class EarlyStopping(nn.Module):
    """Keeps the best weights of each of some networks, and stops one after `patience` scorings without a better loss.

    The weights that are kept are the averaged ones, which are what is scored. All of it is in buffers, so that it is
    in checkpoints.
    """

    best: torch.Tensor
    waited: torch.Tensor
    stopped: torch.Tensor

    def __init__(self, networks: Sequence[nn.Module], patience: int) -> None:
        super().__init__()
        self.patience = patience
        self._parameters_of = [list(network.parameters()) for network in networks]
        count = len(networks)
        self.register_buffer("best", torch.full((count,), math.inf, dtype=torch.float64))
        self.register_buffer("waited", torch.zeros(count, dtype=torch.int64))
        # The step at which each was found to have stopped.
        self.register_buffer("stopped", torch.full((count,), _RUNNING, dtype=torch.int64))
        for number, parameters in enumerate(self._parameters_of):
            for place, parameter in enumerate(parameters):  # names of parameters have dots, those of buffers may not
                self.register_buffer(f"best_{number}_{place}", parameter.detach().clone())

    @property
    def stops(self) -> dict[int, int]:
        """Network -> the step at which it stopped, for those that did."""
        return {number: step for number, step in enumerate(self.stopped.tolist()) if step != _RUNNING}

    @property
    def over(self) -> bool:
        """Whether all have stopped."""
        return len(self.stops) == len(self._parameters_of)

    def judge(self, losses: Mapping[int, float], step: int) -> list[str]:
        """Held-out losses of networks whose averaged weights are in place; lines for people where some stop now.

        The best weights of every network are in place afterwards: these are what a model is exported with.
        """
        lines = [self._judge(number, loss, step) for number, loss in losses.items() if number not in self.stops]
        with torch.no_grad():
            for number in range(len(self._parameters_of)):
                for kept, parameter in zip(self._kept(number), self._parameters_of[number], strict=True):
                    parameter.copy_(kept)
        return [line for line in lines if line]

    @torch.no_grad()
    def _judge(self, number: int, loss: float, step: int) -> str | None:
        if loss < self.best[number].item():
            self.best[number] = loss
            self.waited[number] = 0
            for kept, parameter in zip(self._kept(number), self._parameters_of[number], strict=True):
                kept.copy_(parameter)
            return None
        self.waited[number] += 1
        if self.waited[number].item() < self.patience:
            return None
        self.stopped[number] = step
        best = self.best[number].item()
        return f"stage {number} stops at step {step}: its held-out loss was {best:.4g} and is {loss:.4g}"

    def held(self) -> list[tuple[nn.Parameter, torch.Tensor]]:
        """The parameters of those that stopped, each with its best value."""
        return [
            pair for number in self.stops for pair in zip(self._parameters_of[number], self._kept(number), strict=True)
        ]

    def _kept(self, number: int) -> list[torch.Tensor]:
        return [self.get_buffer(f"best_{number}_{place}") for place in range(len(self._parameters_of[number]))]
