"""How scale and shift learn: student and teacher on the student's own trajectory (Wimbauer et al. 2024, Fig. 5).

The student is the network with its cache, the teacher the same network without. The student's trajectory is unrolled
from noise; in every row that reuses something the teacher evaluates the student's own latents, and the student's output
is to become the teacher's. Latents and kept values carry no gradient: a row is responsible for what it adds itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from headrace.errors import CalibrationError
from headrace.models.denoiser import Rows
from headrace.models.lockstep import Lockstep, Start
from headrace.models.pipelines.base import Pipeline
from headrace.models.row_call import ScaleShift as Pair
from headrace.plan import Plan
from headrace.techniques.block_caching.scale_shift import ScaleShift, Timesteps, pairs
from headrace.techniques.block_caching.schedule import Bools


@dataclass(frozen=True)
class Unrolled:
    """N trajectories of the student.

    Attributes:
        final: [N, C, h, w] the last latents.
        loss: mean over the rows that reuse something of the mean squared difference between student and teacher, both
            guidance branches by themselves. Its gradient is that of scale and shift.
    """

    final: torch.Tensor
    loss: torch.Tensor


class Distillation:
    """Unrolls trajectories of one plan, with the cache and without. Freezes the pipeline's network.

    `plan` has the cache schedule on it, and `pipeline.row_cache` its blocks; pictures are `size` (height, width).
    Raises `CalibrationError` where the schedule reuses nothing, `PlanError` where it reuses what was not computed.
    """

    def __init__(self, pipeline: Pipeline, plan: Plan, size: tuple[int, int]) -> None:
        cache = pipeline.row_cache
        if cache is None or plan.blocks != len(cache.blocks):
            raise CalibrationError("the pipeline caches no blocks, or others than the plan's", "Enable the schedule")
        plan.check_reuse()
        self.reuses: Bools = ~np.all(plan.compute, axis=1)
        if not self.reuses.any():
            raise CalibrationError(
                "the cache schedule reuses nothing, so there is nothing to adjust", "Calibrate with a larger delta"
            )
        self.pipeline, self.plan, self._cache = pipeline, plan, cache
        self.lockstep = Lockstep(pipeline, plan, size)
        pipeline.network.requires_grad_(False)

    def distil(self, start: Start, scale_shift: ScaleShift) -> Unrolled:
        """The student's trajectories and their loss, with its gradient where gradients are on.

        The gradient goes through the network row by row, so that the activations of one row at a time are held, and
        through the layers of `scale_shift` once.
        """
        learning = torch.is_grad_enabled()
        with torch.autocast(self.pipeline.device.type, enabled=False):
            table = scale_shift(self.plan.timestep)
        losses, gradients = [], torch.zeros_like(table)

        def evaluate(row: int, rows: Rows) -> torch.Tensor:
            if not self.reuses[row]:
                return self.pipeline.denoise(rows)  # the teacher would do the same
            adjusted = table[row].detach().requires_grad_(learning)
            target = self.pipeline.evaluate(rows)
            with torch.set_grad_enabled(learning):
                self._cache.adjustment = _OneRow(adjusted, scale_shift.channels)
                output = self.pipeline.denoise(rows)
                loss = (output.float() - target.float()).square().mean()
                if learning:
                    [gradients[row]] = torch.autograd.grad(loss, [adjusted])
            losses.append(loss.detach())
            return output.detach()

        before = self._cache.adjustment
        try:
            with torch.no_grad():
                final = self.lockstep.run(start, evaluate)
        finally:
            self._cache.adjustment = before
        loss = torch.stack(losses).mean()
        if learning:
            carried = (table * gradients).sum() / len(losses)  # its gradient is the loss's, by the chain rule
            loss = loss + carried - carried.detach()
        return Unrolled(final, loss)

    @torch.no_grad()
    def uncached(self, start: Start) -> torch.Tensor:
        """[N, C, h, w] last latents of the teacher on its own."""
        return self.lockstep.run(start, lambda row, rows: self.pipeline.evaluate(rows))

    @torch.no_grad()
    def cached(self, start: Start) -> torch.Tensor:
        """[N, C, h, w] last latents with the cache, adjusted by what the row cache has now, if anything."""
        return self.lockstep.run(start)


class _OneRow:
    """The same scale and shift for all rows of a call, which are at one timestep."""

    def __init__(self, adjusted: torch.Tensor, channels: Sequence[int]) -> None:
        self._adjusted, self._channels = adjusted, channels

    def at(self, timesteps: Timesteps) -> Sequence[Pair]:
        """For timesteps [N], the scale [N, C] and shift [N, C] of every block."""
        return pairs(self._adjusted.expand(len(timesteps), -1), self._channels)
