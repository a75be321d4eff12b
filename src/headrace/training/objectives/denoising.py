"""What every diffusion objective does: data noised by a process, and the squared error of a network's answer."""

from __future__ import annotations

from abc import abstractmethod

import torch

from headrace.training.objectives.objective import Batch, Losses, Objective
from headrace.training.processes.process import Noised, Process
from headrace.training.spaces.space import Space


class DenoisingObjective(Objective):
    """A process on a data space; what the network is and what it is conditioned on is for the subclass to say."""

    def __init__(self, space: Space, process: Process) -> None:
        super().__init__()
        self.space, self.process = space, process

    @abstractmethod
    def predict(self, noised: Noised, batch: Batch) -> torch.Tensor:
        """The network's output [B, C, h, w], conditioned on what `batch` holds."""

    def draws(self, count: int, generator: torch.Generator) -> Batch:
        """`noise` [B, C, h, w], `uniform` [B] (the noise levels follow from it), and what the space draws."""
        shape, device = self.space.shape, generator.device
        return self.space.draws(count, generator) | {
            "noise": torch.randn((count, shape.channels, shape.size, shape.size), generator=generator, device=device),
            "uniform": torch.rand(count, generator=generator, device=device),
        }

    def forward(self, batch: Batch) -> Losses:
        """`loss`: squared error with the weights of the process; `unweighted`: the same without them."""
        error, weight = self.errors(batch)
        return {"loss": (weight * error).mean(), "unweighted": error.mean().detach()}

    def errors(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Squared error of each item, a mean over its elements in float32, and its weight: two [B]."""
        clean = self.space.clean(batch)
        noised = self.process.noised(clean, batch["noise"], self.process.levels(batch["uniform"]))
        error = (self.predict(noised, batch).float() - noised.target).square().mean(dim=(1, 2, 3))
        return error, noised.weight

    def item_count(self) -> int:
        """Pictures in the data set."""
        return len(self.space.images)
