"""A made-up profile of a network with four transformer and two ResNet blocks."""

from __future__ import annotations

import numpy as np

from headrace.techniques.block_caching.artefact import BlockCacheArtefact, Choice
from headrace.techniques.block_caching.calibrate import Profile, Work

IDENTITY = {
    "model": "boat", "weights": "0123", "solver": "DDIMScheduler abc", "steps": 10, "solver_name": "ddim",
    "guidance_scale": 4.0,
}  # fmt: skip


def make_profile(rows: int = 10) -> Profile:
    generator = np.random.default_rng(3)
    paths = tuple(f"{part}.attentions.0" for part in ("down_blocks.0", "mid_block", "up_blocks.0", "up_blocks.1"))
    resnets = ("down_blocks.0.resnets.0", "up_blocks.1.resnets.2")
    work = Work((*paths, *resnets), ("transformer",) * 4 + ("resnet",) * 2, (100, 50, 120, 80, 90, 60), 1000)
    mean = generator.uniform(0.05, 0.4, (rows - 1, len(work.blocks)))
    return Profile(work, np.linspace(900, 0, rows), mean, 0.2 * mean, images=8)


def make_artefact(choice: Choice | None = None, **identity: object) -> BlockCacheArtefact:
    return BlockCacheArtefact.build(make_profile(), choice or Choice(), **(IDENTITY | identity))
