"""Part one: what the paper's share of evaluations is worth on Stable Diffusion 1.5's network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import UNet2DConditionModel

from headrace.benchmarks._block_cache.peer import BlockCache, rhythm
from headrace.benchmarks._contestants import race
from headrace.benchmarks._peers import Peer, Uncached
from headrace.benchmarks._progress import bars
from headrace.models import solvers
from headrace.models.blocks import find_blocks
from headrace.models.row_cache import RowCache
from headrace.plan import Plan
from headrace.plan.reference import trajectory
from headrace.plan.trace import trace

GUIDANCE = 5.0  # section 4.1
PAPER = {("dpm++2m", 20): 1.65, ("ddim", 20): 1.58, ("dpm++2m", 50): 1.82, ("ddim", 50): 1.79}  # Table 1


@dataclass(frozen=True)
class Speed:
    """Seconds of one guided trajectory, all taken in turns row by row.

    `plain` without a cache, `cached` with the paper's blocks cached, the spatial transformers, and `together` with the
    ResNet blocks too, in the same rows; `share` of the rows evaluate them.
    """

    solver: str
    steps: int
    plain: float
    cached: float
    together: float
    share: float

    @property
    def speedup(self) -> float:
        """Time without the cache over time with the transformers cached."""
        return self.plain / self.cached

    @property
    def speedup_together(self) -> float:
        """Time without the cache over time with all blocks cached."""
        return self.plain / self.together

    @property
    def paper(self) -> float | None:
        """The paper's figure for this solver and number of steps."""
        return PAPER.get((self.solver, self.steps))


@torch.inference_mode()
def measure_speed(
    network: UNet2DConditionModel, text: torch.Tensor, side: int, settings: list[tuple[str, int]]
) -> list[Speed]:
    """One request at a time, both guidance branches. `text` [2, T, D], `side` of the latents; (solver, steps) pairs."""
    transformers = find_blocks(network, "transformer")
    blocks = (*transformers, *find_blocks(network, "resnet"))
    shared = RowCache(network, blocks)
    try:
        found = []
        for solver, steps in settings:
            plan = trace(solvers.build(solver, None), steps).with_columns(guidance=GUIDANCE)
            some, every = (rhythm(blocks, plan.timestep, cached) for cached in (len(transformers), len(blocks)))
            contestants = {
                "no cache": Uncached(),
                "transformers cached": BlockCache("transformers cached", some, shared=shared),
                "all blocks cached": BlockCache("all blocks cached", every, shared=shared),
            }
            plain, cached, together = _seconds(contestants, network, plan, text, side)
            share = float(np.mean(every.compute))
            found.append(Speed(solver, steps, plain, cached, together, share))
    finally:
        shared.remove()
    return found


def _seconds(
    contestants: Mapping[str, Peer], network: UNet2DConditionModel, plan: Plan, text: torch.Tensor, side: int
) -> list[float]:
    """Of each contestant, in their order; two rows of each come first and are not counted."""
    latents = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(0)).to(text.device)
    latents = latents * plan.init_noise_sigma
    for peer in contestants.values():
        list(_turns(peer, network, plan, latents, text, rows=2))
    turns = {
        f"SD 1.5, {plan.solver} {plan.steps}, {name}": _turns(peer, network, plan, latents, text)
        for name, peer in contestants.items()
    }
    with bars() as show:
        return list(race(turns, text.device.type, show).values())


def _turns(
    peer: Peer,
    network: UNet2DConditionModel,
    plan: Plan,
    latents: torch.Tensor,
    text: torch.Tensor,
    rows: int | None = None,
) -> Iterator[float]:
    """A trajectory, a row a turn; `rows` cuts it short."""
    wanted = len(plan) if rows is None else rows
    peer.attach(network, plan)
    try:
        steps = trajectory(plan, latents, lambda: torch.randn_like(latents))
        output = None
        for row in range(wanted):
            asked = steps.send(output)
            output = peer(asked.row, asked.sample, asked.timestep, text)
            yield (row + 1) / wanted
    finally:
        peer.detach()
