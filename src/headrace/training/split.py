"""How the pictures of one step are divided: among processes, and into parts that are computed one after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from headrace.training.objectives.objective import Batch, Objective
from headrace.training.order import batch_indices, part_seed, step_generator


@dataclass(frozen=True)
class Split:
    """`parts` of `batch_size` pictures on each of `processes`, of which this is number `process`."""

    batch_size: int
    parts: int = 1
    processes: int = 1
    process: int = 0

    @property
    def images(self) -> int:
        """Pictures of a whole step."""
        return self.batch_size * self.parts * self.processes

    def batches(self, objective: Objective, seed: int, step: int, device: torch.device) -> Iterator[Batch]:
        """This process's parts of a step, with what is drawn for them.

        Order and draws are those of the whole step, whatever the split; only dropout inside the networks, which takes
        its masks from torch's own generator, is seeded for each part.
        """
        indices = batch_indices(seed, step, self.images, objective.item_count(), objective.group)
        draws = objective.draws(self.images, step_generator(seed, step, device))
        for number in range(self.process, self.parts * self.processes, self.processes):
            mine = slice(number * self.batch_size, (number + 1) * self.batch_size)
            torch.manual_seed(part_seed(seed, step, number))
            yield objective.batch(indices[mine]) | {name: values[mine] for name, values in draws.items()}
