"""The scale-shift objective: a network with its block cache learns to answer as without (arXiv:2312.03209, Fig. 5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from headrace.models.lockstep import Start
from headrace.models.pipelines.base import Pipeline
from headrace.pictures.grid import image_grid
from headrace.plan import Plan
from headrace.request import Request
from headrace.techniques.block_caching.artefact import BlockCacheArtefact
from headrace.techniques.block_caching.scale_shift import ScaleShift, block_channels
from headrace.techniques.block_caching.scale_shift_distillation import Distillation, Unrolled
from headrace.techniques.block_caching.scale_shift_file import FILE_NAME, save_scale_shift
from headrace.training.objectives.objective import Batch, Losses, Objective

_SHOWN = 8
_SEEDS = 2**31  # below this are those of requests


class ScaleShiftObjective(Objective):
    """Scale and shift of the blocks that a pipeline caches; an item is a request, and a step a trajectory of each.

    One step of the optimiser a trajectory: what a row teaches is averaged with the other rows' before anything moves,
    so that a step follows from the seed and its number alone and a resumed run repeats it. A step a row is quicker at
    first (after 30 trajectories of the emoji model a held-out loss of 0.076 in place of 0.082, from 0.103), but a run
    could only be resumed between trajectories, and the loop would have to hold their state.
    `pipeline` has the artefact's blocks in its row cache and `plan` its schedule; `requests` differ in what is to be
    seen (their seeds are not used: each step draws others). Raises as `Distillation`.
    """

    def __init__(
        self, pipeline: Pipeline, plan: Plan, artefact: BlockCacheArtefact, requests: Sequence[Request]
    ) -> None:
        super().__init__()
        self.distillation = Distillation(pipeline, plan, pipeline.size(requests[0]))
        self.scale_shift = ScaleShift(block_channels(pipeline.network, artefact.blocks))
        self.pipeline, self.artefact, self.requests = pipeline, artefact, requests
        self._references: tuple[torch.Tensor, Unrolled] | None = None
        self._held_out: Unrolled | None = None
        self._figures: dict[str, float] = {}

    @torch.no_grad()
    def batch(self, indices: np.ndarray) -> Batch:
        """`positive.NAME` and `negative.NAME`: [N, ...] what both branches are conditioned on."""
        start = Start.of(self.pipeline, [self.requests[index] for index in indices])
        branches = {"positive": start.positive, "negative": start.negative}
        return {f"{branch}.{name}": value for branch, own in branches.items() for name, value in own.items()}

    def draws(self, count: int, generator: torch.Generator) -> Batch:
        """`seeds`: int64 [count]; the noise of a trajectory follows from its seed as in a request."""
        return {"seeds": torch.randint(_SEEDS, (count,), generator=generator, device=generator.device)}

    def forward(self, batch: Batch) -> Losses:
        """`loss`: what student and teacher differ by, see `headrace.techniques.block_caching.scale_shift_distillation`.

        It is a mean over rows and both branches, each by itself: where both branches agree with the teacher's, so do
        their guided combinations of any scale.
        """
        self._held_out = None
        return {"loss": self.distillation.distil(_start(batch), self.scale_shift).loss}

    def item_count(self) -> int:
        """How many requests there are to learn from."""
        return len(self.requests)

    def scores(self) -> dict[str, float]:
        """Of a few requests, always with the same noise, which is none that is learnt from.

        `held_out_loss`: as the loss, and `plain_loss`: that of plain caching. `distance`: root of the mean squared
        distance of the last latents to those without a cache, relative to plain caching's; 1 at the start, and 0 would
        be no effect of caching at all.
        """
        uncached, plain = self._reference()
        unrolled = self._shown()
        distance = (unrolled.final - uncached).norm() / (plain.final - uncached).norm()
        self._figures = {
            "held_out_loss": unrolled.loss.item(), "plain_loss": plain.loss.item(), "distance": distance.item()
        }  # fmt: skip
        return self._figures

    def sample_grid(self) -> Image.Image:
        """A row each: without a cache, with plain caching, with scale and shift."""
        uncached, plain = self._reference()
        finals = torch.cat([uncached, plain.final, self._shown().final])
        pixels = self.pipeline.decode(finals).cpu().permute(0, 3, 1, 2)
        return image_grid(pixels.expand(-1, 3, -1, -1), columns=_SHOWN)

    def export(self, folder: Path) -> None:
        """Write the layers beside the schedule, with the last scores."""
        save_scale_shift(self.scale_shift, self.artefact, folder / FILE_NAME, self._figures)

    def _shown(self) -> Unrolled:
        """The held-out trajectories with the layers as they are; kept until the next step."""
        if self._held_out is None:
            self._held_out = self._unrolled(self.scale_shift)
        return self._held_out

    def _reference(self) -> tuple[torch.Tensor, Unrolled]:
        """Last latents of the held-out trajectories without a cache, and those trajectories with plain caching."""
        if self._references is None:
            identity = ScaleShift(self.scale_shift.channels).to(self.pipeline.device)
            self._references = self.distillation.uncached(self._held_out_start()), self._unrolled(identity)
        return self._references

    @torch.no_grad()
    def _unrolled(self, scale_shift: ScaleShift) -> Unrolled:
        return self.distillation.distil(self._held_out_start(), scale_shift)

    def _held_out_start(self) -> Start:
        shown = [self.requests[index] for index in np.linspace(0, len(self.requests) - 1, _SHOWN).round().astype(int)]
        with torch.no_grad():
            seeded = [one.model_copy(update={"seed": _SEEDS + number}) for number, one in enumerate(shown)]
            return Start.of(self.pipeline, seeded)


def _start(batch: Batch) -> Start:
    def branch(prefix: str) -> Batch:
        return {name.removeprefix(prefix): value for name, value in batch.items() if name.startswith(prefix)}

    return Start(branch("positive."), branch("negative."), batch["seeds"].tolist())
