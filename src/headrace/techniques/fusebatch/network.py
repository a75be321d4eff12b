"""`FuseBatchUNet2DModel`: the networks for one or several fusion factors K as one part of a diffusers folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DModel
from diffusers.configuration_utils import FrozenDict, register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import nn
from typing_extensions import override

from headrace.errors import ModelError
from headrace.models.pipelines.parts import registered_network
from headrace.plan import Plan
from headrace.techniques.fusebatch import schedule
from headrace.techniques.fusebatch.fused_registered import FusedRegistered
from headrace.techniques.fusebatch.fused_unet import FusedUNet
from headrace.techniques.fusebatch.transfer import copy_all

_LARGEST = 1024  # of the plan's column


class FuseBatchUNet2DModel(ModelMixin, ConfigMixin):
    """A U-Net for each of some fusion factors K: a `UNet2DModel` for K = 1, a `FusedUNet` for every other.

    `unet` is the configuration of the `UNet2DModel` of one image, or with `network` = class name that of a registered
    network that stands for one, such as one with stages: K of it is then a `FusedRegistered`, and what of a plan it is
    told, these models are told beside `fusion`. `kernel_size` is that of the fusion. `policy` is the
    model's own allocation of factors to rows, [[K, share], ...], for plans in which nobody else decides; None is the
    paper's for these factors (`schedule.halving`). Raises `ModelError` for factors that are none, not whole numbers
    from 1 to 1024, or twice there, and `PlanError` for a policy that is none of these factors.
    """

    # As which a folder's model_index.json and `import` know it.
    __module__ = "headrace"
    # What it is called as, and what of a plan it is told beside that.
    stands_for = "UNet2DModel"
    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        factors: Sequence[int],
        unet: Mapping[str, Any],
        kernel_size: int = 3,
        policy: Sequence[Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        check_factors(factors)
        if policy is not None:
            schedule.check_factors(_allocation(policy), factors)
        settings = {name: value for name, value in unet.items() if not name.startswith("_")}
        self.networks = nn.ModuleDict({str(factor): _network(settings, factor, kernel_size) for factor in factors})

    @property
    def factors(self) -> tuple[int, ...]:
        """The fusion factors there are networks for, the smallest first."""
        return tuple(sorted(self.config["factors"]))

    @property
    def columns(self) -> frozenset[str]:
        """What of a plan it is told: the fusion factor, and what its bodies read."""
        return frozenset({"fusion"}) | getattr(self._body, "columns", frozenset())

    @property
    def _body(self) -> Any:
        """One of the networks; all decide alike on what they are told."""
        first: Any = next(iter(self.networks.values()))
        return first if isinstance(first, ModelMixin) else first.body

    @property
    @override
    def config(self) -> FrozenDict:
        """The configuration of the U-Net of one image, and this model's own over it."""
        first: Any = next(iter(self.networks.values()))
        unet = first.config if isinstance(first, ModelMixin) else first.config_of_one
        return FrozenDict({**unet, **self._internal_dict})

    @override
    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float,
        class_labels: torch.Tensor | None = None,
        fusion: int | None = None,
        return_dict: bool = True,
        **columns: Any,
    ) -> UNet2DOutput | tuple[torch.Tensor]:
        """[N, C, h, w] -> [N, C_out, h, w]: groups of K = `fusion` rows that stand together share an evaluation each.

        `timestep` is a number or one a row, of which a group's first is taken; `class_labels` is [N]. `fusion` None is
        the smallest factor; `columns` are what the bodies are told of each row beside. Raises `ValueError` where there
        is no network for K, or N is not a multiple of K.
        """
        factor = self.factors[0] if fusion is None else fusion
        if str(factor) not in self.networks:
            raise ValueError(f"there is no network for a fusion factor of {factor}: choose from {self.factors}")
        network: Any = self.networks[str(factor)]
        if factor == 1:
            output = network(sample, timestep, class_labels, return_dict=False, **columns)[0]
        else:
            output = network(sample, timestep, class_labels, **columns)
        return UNet2DOutput(sample=output) if return_dict else (output,)

    def decide(self, plan: Plan) -> Plan:
        """The plan with the fusion factors of this model's policy, and with what its bodies decide."""
        if hasattr(self._body, "decide"):
            plan = self._body.decide(plan)
        policy = self.config["policy"]
        return schedule.fuse(plan, schedule.halving(self.factors) if policy is None else _allocation(policy))

    def check(self, plan: Plan) -> None:
        """Raises `PlanError` for a plan that the bodies have nothing for."""
        if hasattr(self._body, "check"):
            self._body.check(plan)

    def initialise_from(self, trained: Any) -> None:
        """Starts every network from a trained one of one image: see `FusedUNet.initialise_from`; K = 1 is a copy.

        Raises `ModelError` where the configurations differ.
        """
        network: Any
        for network in self.networks.values():
            if type(network) is type(trained):
                copy_all(trained, network)
            else:
                network.initialise_from(trained)


def check_factors(factors: Sequence[int]) -> None:
    """Raises `ModelError` unless there are some, all different, each a whole number from 1 to 1024."""
    whole = all(isinstance(factor, int) and not isinstance(factor, bool) for factor in factors)
    if not factors or not whole or not all(1 <= factor <= _LARGEST for factor in factors):
        raise ModelError(
            f"fusion factors {list(factors)} are not numbers of images", f"Give whole numbers from 1 to {_LARGEST}"
        )
    if len(set(factors)) < len(factors):
        raise ModelError(f"fusion factors {list(factors)} name one twice", "Give each factor once")


def _allocation(policy: Sequence[Sequence[float]]) -> schedule.Allocation:
    return schedule.Allocation((int(factor), float(share)) for factor, share in policy)


def _network(unet: Mapping[str, Any], factor: int, kernel_size: int) -> nn.Module:
    if "network" in unet:
        kind, settings = registered_network(unet)
        return kind(**settings) if factor == 1 else FusedRegistered(unet, factor, kernel_size)
    return UNet2DModel(**unet) if factor == 1 else FusedUNet(unet, factor, kernel_size)
