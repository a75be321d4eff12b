"""The protocol between the training loop and what it trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from headrace.training.work import Work

Batch = dict[str, torch.Tensor]
Losses = dict[str, torch.Tensor]


class Objective(nn.Module, ABC):
    """Networks, their data and their loss. Parameters that require a gradient are what the loop optimises."""

    @property
    def group(self) -> int:
        """How many items, standing together in a batch, are computed as one; a batch is a multiple of it."""
        return 1

    @abstractmethod
    def batch(self, indices: np.ndarray) -> Batch:
        """The data of these items, on the device of the networks, with nothing random in it."""

    @abstractmethod
    def draws(self, count: int, generator: torch.Generator) -> Batch:
        """Everything random that `count` items need: noise, timesteps, flips. The first dimension of each is `count`.

        The loop draws for a whole step and gives each process and each part of the step its share, so that how a step
        is split changes nothing that is learnt. On the generator's device.
        """

    @abstractmethod
    def forward(self, batch: Batch) -> Losses:
        """Scalars by name, means over the items; "loss" is the one that is minimised.

        `batch` holds what `batch` and `draws` gave. Nothing is drawn here, except by dropout inside a network.
        """

    @abstractmethod
    def item_count(self) -> int:
        """How many items one pass of the data has."""

    @abstractmethod
    def sample_grid(self) -> Image.Image:
        """A picture that shows a person what has been learnt so far."""

    @abstractmethod
    def scores(self) -> dict[str, float]:
        """Figures that are measured now and then, for the log."""

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write the trained components, float32 and each by rename, into the diffusers folder being built."""

    def work(self, steps: int) -> dict[str, Work]:
        """What so many steps have cost, by part of the network; empty where nobody counted."""
        return {}

    @property
    def stops_early(self) -> bool:
        """Whether a part of it may stop learning before the loop ends."""
        return False

    @property
    def over(self) -> bool:
        """Whether nothing is left that learns."""
        return False

    def judge(self, step: int, scores: Mapping[str, float]) -> list[str]:
        """Told the scores of a step while the averaged weights are in place: what it decides, as lines for people."""
        return []

    def held(self) -> list[tuple[nn.Parameter, torch.Tensor]]:
        """Parameters that learn no more, each with the value that it has from now on."""
        return []

    def trainable(self) -> list[nn.Parameter]:
        """The parameters that the optimiser moves, in a fixed order."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]
