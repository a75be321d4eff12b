"""The smallest objective there is, and a loop around it."""

from __future__ import annotations

import csv
from pathlib import Path

import tiny_recipes
import torch
from PIL import Image
from torch import nn

from headrace.training.accelerator import make_accelerator
from headrace.training.objectives.objective import Objective
from headrace.training.tables.loop import LoopTable
from headrace.training.trainer import RunSettings, Trainer


class Line(Objective):
    """Fits y = 2x with one weight; `broken_at` makes the loss of that call a NaN. Counts calls in a buffer."""

    def __init__(self, broken_at=None):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.dropout = nn.Dropout(0.2)
        self.register_buffer("seen", torch.zeros(()))
        self.broken_at, self.calls, self.exported = broken_at, 0, []

    def batch(self, indices):
        return {"x": torch.from_numpy(indices).float() / 10}

    def draws(self, count, generator):
        return {"noise": 0.01 * torch.randn(count, generator=generator)}

    def forward(self, batch):
        self.calls += 1
        self.seen += len(batch["x"])
        x = self.dropout(batch["x"])
        loss = (self.weight * x - 2 * x + batch["noise"]).square().mean()
        return {"loss": loss * float("nan") if self.calls == self.broken_at else loss}

    def item_count(self):
        return 10

    def sample_grid(self):
        return Image.new("RGB", (4, 4))

    def scores(self):
        return {"weight": self.weight.item()}

    def export(self, folder):
        self.exported.append(self.weight.item())


def loop_table(**values) -> LoopTable:
    return LoopTable.model_validate({**tiny_recipes.LOOP, "learning_rate": 0.05, **values})


def trainer(folder: Path, objective: Objective, resume=False, seconds=None, recipe=None, **values) -> Trainer:
    loop = loop_table(**values)
    settings = RunSettings("line", folder, seed=1, seconds=seconds, resume=resume, recipe=recipe or {})
    return Trainer(objective, loop, settings, make_accelerator(loop))


def losses(folder: Path) -> list[tuple[str, str]]:
    """Steps and losses as the log has them."""
    with (folder / "log.csv").open() as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file)]
