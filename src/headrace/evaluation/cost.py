"""What a picture costs: parameters and multiply-accumulate operations, counted on one row."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from headrace.models.macs import count_macs, one_row
from headrace.models.pipelines.base import Pipeline
from headrace.plan.plan import Plan
from headrace.request import Request


@dataclass(frozen=True)
class Cost:
    """Of one picture.

    Attributes:
        parameters: of the denoising network; `parameters_total` of every network of the pipeline.
        macs_a_row: multiply-accumulate operations of one network evaluation for one picture, one guidance branch.
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
    """Counts by running the plan's first row of the request, and one decoding, on zeros. Raises as `encode` does."""
    latents = torch.zeros((1, *pipeline.latent_shape(*pipeline.size(request))), device=pipeline.device)
    columns = {name: getattr(plan, name)[:1] for name in pipeline.columns}
    rows = replace(one_row(pipeline, request, float(plan.timestep[0])), columns=columns)
    modules = [part for part in pipeline.components.components.values() if isinstance(part, torch.nn.Module)]
    row = count_macs(lambda: pipeline.denoise(rows))
    return Cost(
        parameters=_parameters([pipeline.network]),
        parameters_total=_parameters(modules),
        macs_a_row=row.total,
        macs_attention_a_row=row.attention,
        network_rows=plan.network_rows,
        macs_decoder=count_macs(lambda: pipeline.decode(latents)).total,
    )


def _parameters(modules: list[torch.nn.Module]) -> int:
    """Each one once, though modules may share some."""
    unique = {id(parameter): parameter.numel() for module in modules for parameter in module.parameters()}
    return sum(unique.values())
