"""What a picture costs: parameters and multiply-accumulate operations, counted on one row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from headrace.models.denoiser import Rows
from headrace.models.macs import count_macs, one_row
from headrace.models.pipelines.base import Pipeline
from headrace.plan.plan import Plan
from headrace.request import Request


@dataclass(frozen=True)
class Cost:
    """Of one picture: where K pictures share an evaluation, or a decoding, its share of that (full groups are meant).

    Attributes:
        parameters: of the denoising network; `parameters_total` of every network of the pipeline.
        macs_a_row: multiply-accumulate operations of one network evaluation for one picture, one guidance branch; the
            mean over the trajectory, where rows differ in K or in the stage whose decoder they go to.
        macs_attention_a_row: those of them in attention's two products, which counters that look at modules leave out:
            the DDPM network for CIFAR-10 has 6.22 GMAC, and 6.05 in the tables that were made with such a counter.
        network_rows: network evaluations of the whole trajectory, both branches counted.
        macs_decoder: of decoding the latents, once.
    """

    parameters: int
    parameters_total: int
    macs_a_row: int
    macs_attention_a_row: int
    network_rows: int
    macs_decoder: int

    @property
    def macs_a_picture(self) -> int:
        """The whole trajectory and the decoder; text encoders are left out, their results are shared."""
        return self.macs_a_row * self.network_rows + self.macs_decoder


def measure_cost(pipeline: Pipeline, request: Request, plan: Plan) -> Cost:
    """Counts by running the first row of each kind (K, stage) in the plan, and one decoding, on zeros.

    Raises as `encode` does.
    """
    latents = torch.zeros((1, *pipeline.latent_shape(*pipeline.size(request))), device=pipeline.device)
    modules = [part for part in pipeline.components.components.values() if isinstance(part, torch.nn.Module)]
    kinds, firsts, kind_of = np.unique(
        np.column_stack([plan.fusion, plan.stage]), axis=0, return_index=True, return_inverse=True
    )
    evaluations = np.bincount(kind_of.reshape(-1), np.where(plan.guidance != 1.0, 2, 1)) / plan.network_rows
    total = attention = 0.0
    for (fusion, _), first, share in zip(kinds.tolist(), firsts.tolist(), evaluations.tolist(), strict=True):
        counted = count_macs(partial(pipeline.denoise, _group(pipeline, request, plan, first)))
        total += share * counted.total / fusion
        attention += share * counted.attention / fusion
    return Cost(
        parameters=_parameters([pipeline.network]),
        parameters_total=_parameters(modules),
        macs_a_row=round(total / pipeline.pictures),
        macs_attention_a_row=round(attention / pipeline.pictures),
        network_rows=plan.network_rows,
        macs_decoder=count_macs(lambda: pipeline.decode(latents)).total // pipeline.pictures,
    )


def _group(pipeline: Pipeline, request: Request, plan: Plan, place: int) -> Rows:
    """As many copies of a row of the plan as its K says."""
    fusion = int(plan.fusion[place])
    row = one_row(pipeline, request, float(plan.timestep[place]))
    return Rows(
        sample=row.sample.repeat_interleave(fusion, 0),
        timestep=row.timestep.repeat_interleave(fusion),
        conditioning={name: tensor.repeat_interleave(fusion, 0) for name, tensor in row.conditioning.items()},
        branches=row.branches.repeat(fusion),
        columns={name: getattr(plan, name)[place][None].repeat(fusion, axis=0) for name in pipeline.columns},
    )


def _parameters(modules: list[torch.nn.Module]) -> int:
    """Each one once, though modules may share some."""
    unique = {id(parameter): parameter.numel() for module in modules for parameter in module.parameters()}
    return sum(unique.values())
