"""The protocol of a diffusion process: everything that is neither network nor data nor conditioning."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch

# Of uniform draws, so that no noise level is infinite: a normal distribution is cut off at 5.2 deviations.
_EDGE = 1e-7


class Noised(NamedTuple):
    """What a network is given, and what it should answer.

    Attributes:
        input: float32 [B, C, H, W], as the solver will scale it.
        timestep: [B], the value that the solver will tell the network at this noise level.
        target: float32 [B, C, H, W], what the solver takes the network's output for.
        weight: float32 [B], of the squared error, mean over elements.
    """

    input: torch.Tensor
    timestep: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor


class Process(ABC):
    """A noise process. `solver`: the diffusers scheduler that samples what is learnt here; an export writes it.

    Nothing is drawn here: the noise and the uniform draws that noise levels follow from are given, so a loss is a
    function of them. A network that minimises the loss is what the solver expects, at the timesteps that it uses.
    """

    # The short name in `headrace.models.solvers` that sample grids use.
    sampler: ClassVar[str]

    def __init__(self, solver: Any) -> None:
        self.solver = solver

    @abstractmethod
    def levels(self, uniform: torch.Tensor) -> torch.Tensor:
        """Noise levels [B] in the process's own measure, for draws [B] from the uniform distribution on [0, 1)."""

    @abstractmethod
    def early(self, levels: torch.Tensor, share: float) -> torch.Tensor:
        """bool [B]: whether noise levels [B] lie in the first `share` of the steps of a fine sampling."""

    @abstractmethod
    def parts(self, levels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of noise levels [B], signal and sigma [B]: x = signal*x0 + sigma*noise."""

    @abstractmethod
    def noised(self, clean: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> Noised:
        """Input, timestep, target and weight, for data and standard normal noise [B, C, H, W] at levels [B]."""


def standard_normal(uniform: torch.Tensor) -> torch.Tensor:
    """Standard normal values of uniform draws in [0, 1), by the inverse distribution function."""
    return torch.special.ndtri(uniform.clamp(_EDGE, 1 - _EDGE))


def broadcast(values: torch.Tensor) -> torch.Tensor:
    """[B] as [B, 1, 1, 1]."""
    return values[:, None, None, None]
