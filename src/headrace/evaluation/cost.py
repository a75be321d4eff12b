"""What a picture costs: parameters and multiply-accumulate operations, counted on one row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from headrace.models.denoiser import CONDITIONAL, Rows
from headrace.models.pipelines.base import Pipeline
from headrace.plan.plan import Plan
from headrace.request import Request

_INPUTS = ("query", "key", "value")


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
    shape = pipeline.latent_shape(*pipeline.size(request))
    latents = torch.zeros((1, *shape), device=pipeline.device)
    [conditioning] = pipeline.encode([request])
    rows = Rows(
        sample=latents.to(pipeline.dtype),
        timestep=torch.tensor([float(plan.timestep[0])], device=pipeline.device),
        conditioning={name: tensor[None] for name, tensor in conditioning.positive.items()},
        branches=np.array([CONDITIONAL], dtype=np.int8),
        columns={name: getattr(plan, name)[:1] for name in pipeline.columns},
    )
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


class Macs(NamedTuple):
    """Multiply-accumulate operations: all, and those of attention's products of queries, keys and values."""

    total: int
    attention: int


def count_macs(run: Callable[[], object]) -> Macs:
    """Of `run`: matrix products, convolutions and attention; half of what torch's counter calls FLOPs.

    Attention is written out as two products while counting: torch has no formula for its fused kernel on a CPU.
    """
    counter = FlopCounterMode(display=False)
    attention = _Attention()
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), counter, attention:
        run()
    return Macs(int(counter.get_total_flops()) // 2, attention.macs)


class _Attention(TorchFunctionMode):
    """Adds up the operations of the calls of torch's attention: queries x keys x (their width + that of the values)."""

    macs = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is scaled_dot_product_attention:
            given = dict(zip(_INPUTS, args, strict=False)) | (kwargs or {})
            query, key, value = (given[name] for name in _INPUTS)
            self.macs += query.numel() // query.shape[-1] * key.shape[-2] * (key.shape[-1] + value.shape[-1])
        return func(*args, **(kwargs or {}))


def _parameters(modules: list[torch.nn.Module]) -> int:
    """Each one once, though modules may share some."""
    unique = {id(parameter): parameter.numel() for module in modules for parameter in module.parameters()}
    return sum(unique.values())
