"""What every diffusion objective does: data noised by a process, and the squared error of a network's answer."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch

from headrace.training.objectives.objective import Batch, Losses, Objective
from headrace.training.processes.process import Noised, Process
from headrace.training.spaces.low_resolution import LowResolution
from headrace.training.spaces.space import Space


class DenoisingObjective(Objective):
    """A process on a data space; what the network is and what it is conditioned on is for the subclass to say."""

    def __init__(self, space: Space, process: Process) -> None:
        super().__init__()
        self.space, self.process = space, process
        # Data at low size for the noisy part of denoising, where a recipe asks for it: set once the network is known.
        self.low: LowResolution | None = None

    @abstractmethod
    def predict(self, noised: Noised, batch: Batch) -> torch.Tensor:
        """The network's output [B, C, h, w], conditioned on what `batch` holds."""

    def data_batch(self, indices: np.ndarray, device: torch.device) -> Batch:
        """What is needed of these pictures, at full size and at the low one."""
        where = torch.from_numpy(indices)
        own = self.space.batch(where, device)
        return own if self.low is None else own | self.low.batch(where, device)

    def draws(self, count: int, generator: torch.Generator) -> Batch:
        """`noise` [B, C, h, w], `uniform` [B] (the noise levels follow from it), and what the space draws.

        The items of a group have one noise level.
        """
        shape, device = self.space.shape, generator.device
        sides = (count, shape.channels, shape.size, shape.size)
        drawn = self.space.draws(count, generator) | {"noise": torch.randn(sides, generator=generator, device=device)}
        levels = torch.rand(count // self.group, generator=generator, device=device)
        return drawn | {"uniform": levels.repeat_interleave(self.group)}

    def forward(self, batch: Batch) -> Losses:
        """`loss`: squared error with the weights of the process; `unweighted`: the same without them."""
        error, weight = self.errors(batch) if self.low is None else self._mixed_errors(batch, self.low)
        return {"loss": (weight * error).mean(), "unweighted": error.mean().detach()}

    def errors(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """At full size: squared error of each item, a mean over its elements in float32, and its weight: two [B].

        Where an item of the space is made of several pictures, it takes what is drawn for the first of them.
        """
        own = self.space.group
        first = batch if own == 1 else {name: values[::own] for name, values in batch.items()}
        return self._errors(self.space.clean(batch), first["noise"], first)

    def _mixed_errors(self, batch: Batch, low: LowResolution) -> tuple[torch.Tensor, torch.Tensor]:
        """As `errors`, early items at low size: two network calls, each of its own items; those at full size first."""
        early = self.process.early(self.process.levels(batch["uniform"]), low.share)
        found = []
        if not early.all():
            part = items(batch, ~early)
            found.append(self.errors(part))
        if early.any():
            part = items(batch, early)
            clean = low.clean(part, self.space.clean(part))
            found.append(self._errors(clean, low.corner(part["noise"]), part))
        error, weight = (torch.cat(parts) for parts in zip(*found, strict=True))
        return error, weight

    def _errors(self, clean: torch.Tensor, noise: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        noised = self.process.noised(clean, noise, self.process.levels(batch["uniform"]))
        error = (self.predict(noised, batch).float() - noised.target).square().mean(dim=(1, 2, 3))
        return error, noised.weight

    def item_count(self) -> int:
        """Pictures in the data set."""
        return len(self.space.images)


def items(batch: Batch, chosen: torch.Tensor) -> Batch:
    """The items of a batch where bool [B] says so."""
    where = chosen.nonzero().flatten()
    return {name: values[where] for name, values in batch.items()}
