"""Part one: what the paper's share of evaluations is worth on Stable Diffusion 1.5's network."""

from __future__ import annotations

from collections.abc import Iterator
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
from headrace.plan import Plan
from headrace.plan.reference import trajectory
from headrace.plan.trace import trace

GUIDANCE = 5.0  # section 4.1
PAPER = {("dpm++2m", 20): 1.65, ("ddim", 20): 1.58, ("dpm++2m", 50): 1.82, ("ddim", 50): 1.79}  # Table 1


@dataclass(frozen=True)
class Speed:
    """Seconds of one guided trajectory without and with the cache, taken in turns row by row."""

    solver: str
    steps: int
    plain: float
    cached: float
    share: float

    @property
    def speedup(self) -> float:
        """Time without the cache over time with it."""
        return self.plain / self.cached

    @property
    def paper(self) -> float | None:
        """The paper's figure for this solver and number of steps."""
        return PAPER.get((self.solver, self.steps))


@torch.inference_mode()
def measure_speed(
    network: UNet2DConditionModel, text: torch.Tensor, side: int, settings: list[tuple[str, int]]
) -> list[Speed]:
    """One request at a time, both guidance branches. `text` [2, T, D], `side` of the latents; (solver, steps) pairs."""
    device = text.device.type
    blocks = find_blocks(network, "transformer")
    found = []
    for solver, steps in settings:
        plan = trace(solvers.build(solver, None), steps).with_columns(guidance=GUIDANCE)
        schedule = rhythm(blocks, plan.timestep)
        latents = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(0)).to(text.device)
        latents = latents * plan.init_noise_sigma
        for peer in (Uncached(), BlockCache("warming up", schedule)):  # not timed
            list(_turns(peer, network, plan, latents, text, rows=2))
        plain, cached = f"SD 1.5, {solver} {steps}, no cache", f"SD 1.5, {solver} {steps}, block cache"
        turns = {
            plain: _turns(Uncached(), network, plan, latents, text),
            cached: _turns(BlockCache(cached, schedule), network, plan, latents, text),
        }
        with bars() as show:
            seconds = race(turns, device, show)
        share = float(np.mean(schedule.compute))
        found.append(Speed(solver, steps, seconds[plain], seconds[cached], share))
    return found


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
