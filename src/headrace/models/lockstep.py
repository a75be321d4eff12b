"""Requests of one plan, evaluated row by row together: the plain loop of calibration and of training with a cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from headrace.models.crossing import crossed, pooled
from headrace.models.denoiser import CONDITIONAL, UNCONDITIONAL, Rows
from headrace.models.pipelines.base import LatentShape, Pipeline
from headrace.models.slot_cache import SlotCache
from headrace.plan.crossing import Change
from headrace.plan.plan import Plan
from headrace.plan.reference import Evaluation, drive, trajectory
from headrace.request import Request

# Told the number of the row and what the network is to be called with; returns its output, guidance not yet applied.
Evaluate = Callable[[int, Rows], torch.Tensor]


@dataclass(frozen=True)
class Start:
    """Where N trajectories begin: conditioning of both branches, name -> [N, ...], and a seed each, as in requests.

    `negative` is empty where the model has no unconditional branch.
    """

    positive: Mapping[str, torch.Tensor]
    negative: Mapping[str, torch.Tensor]
    seeds: Sequence[int]

    @classmethod
    def of(cls, pipeline: Pipeline, requests: Sequence[Request]) -> Start:
        """Encodes (checked) requests of one size."""
        encoded = pipeline.encode(requests)
        names = encoded[0].positive
        positive = {name: torch.stack([one.positive[name] for one in encoded]) for name in names}
        negative = {} if encoded[0].negative is None else {
            name: torch.stack([(one.negative or {})[name] for one in encoded]) for name in names
        }  # fmt: skip
        return cls(positive, negative, [request.seed for request in requests])


class Lockstep:
    """Runs trajectories of one plan, pictures of one `size` (height, width) in pixels.

    Every trajectory starts from the noise of its own seed, as in the engine, and gives the engine's latents.
    """

    def __init__(self, pipeline: Pipeline, plan: Plan, size: tuple[int, int]) -> None:
        self._pipeline, self._plan = pipeline, plan
        self._shape = pipeline.latent_shape(*size)

    def run(self, start: Start, evaluate: Evaluate | None = None) -> torch.Tensor:
        """[N, C, h, w] last latents, float32. `evaluate` is `pipeline.denoise` where none is given."""
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in start.seeds]
        caches = [SlotCache() for _ in start.seeds]

        sizes = [self._shape_of(scale) for scale in [*self._plan.scale.tolist(), 1.0]]
        now = 0

        def draw(shape: LatentShape | None = None) -> torch.Tensor:
            noise = [torch.randn(shape or sizes[now], generator=one) for one in generators]
            return torch.stack(noise).to(self._pipeline.device)

        def resize(change: Change) -> torch.Tensor:
            nonlocal now
            now = change.row
            return crossed(self._plan, change, sizes[now], draw, lambda: first_noise)

        def answer(asked: Evaluation) -> torch.Tensor:
            given = self._rows(asked, start, caches)
            returned = self._pipeline.denoise(given) if evaluate is None else evaluate(asked.row, given)
            return self.guided(asked.row, returned.float())

        first_noise = draw(self._shape)
        first = pooled(first_noise, sizes[0]) * self._plan.init_noise_sigma
        final: torch.Tensor = drive(trajectory(self._plan, first, draw, resize), answer)
        return final

    def _shape_of(self, scale: float) -> LatentShape:
        return self._pipeline.scaled_shape(self._shape, scale)

    def guided(self, row: int, output: torch.Tensor) -> torch.Tensor:
        """Classifier-free guidance of a row: [2N, ...] -> [N, ...], or the output itself where it is off."""
        scale = float(self._plan.guidance[row])
        if scale == 1.0:
            return output
        conditional, unconditional = output.chunk(2)
        return unconditional + scale * (conditional - unconditional)

    def _rows(self, asked: Evaluation, start: Start, caches: list[SlotCache]) -> Rows:
        """The conditional rows, then the unconditional ones where the row is guided."""
        sample, branches = asked.sample, [CONDITIONAL] * len(caches)
        conditioning = {**start.positive, **self._size_conditions(asked.row, len(caches))}
        if self._plan.guidance[asked.row] != 1.0:
            sample, caches = torch.cat([sample, sample]), caches * 2
            negative = {**start.negative, **self._size_conditions(asked.row, len(start.seeds))}
            conditioning = {name: torch.cat([own, negative[name]]) for name, own in conditioning.items()}
            branches = branches + [UNCONDITIONAL] * len(branches)
        count = len(branches)
        return Rows(
            sample=sample.to(self._pipeline.dtype),
            timestep=torch.full((count,), asked.timestep, device=sample.device),
            conditioning=conditioning,
            branches=np.array(branches, np.int8),
            columns={
                name: getattr(self._plan, name)[asked.row][None].repeat(count, axis=0)
                for name in self._pipeline.columns
            },
            caches=caches,
        )

    def _size_conditions(self, row: int, count: int) -> dict[str, torch.Tensor]:
        """What `count` trajectories are told of a size that is not that of the picture."""
        if self._plan.scale[row] == 1.0:
            return {}
        told = self._pipeline.size_conditions(self._shape_of(float(self._plan.scale[row])))
        return {name: tensor.expand(count, *tensor.shape) for name, tensor in told.items()}
