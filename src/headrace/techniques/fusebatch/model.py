"""`FuseBatchModel`: networks for one or several fusion factors K as one part of a diffusers folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import FrozenDict, register_to_config
from torch import nn
from typing_extensions import override

from headrace.errors import ModelError
from headrace.plan import Plan
from headrace.techniques.fusebatch import schedule
from headrace.techniques.fusebatch.transfer import copy_all

_LARGEST = 1024  # of the plan's column


class FuseBatchModel(ModelMixin, ConfigMixin):
    """A network for each of some fusion factors K: diffusers' own for K = 1, one around its body for every other.

    `unet` is the configuration of the network of one image and `kernel_size` that of the fusion. `policy` is the
    model's own allocation of factors to rows, [[K, share], ...], for plans in which nobody else decides; None is the
    paper's for these factors (`schedule.halving`). Raises `ModelError` for factors that are none, not whole numbers
    from 1 to 1024, or twice there, and for a network that cannot be fused; `PlanError` for a policy that is none of
    these factors.

    Subclasses say what network it is, and are called as that is, with `fusion` = K beside.
    """

    # Classes: diffusers' network of one image, and the `FusedNetwork` of K, made of (unet, factor, kernel_size).
    of_one: ClassVar[Any]
    of_several: ClassVar[Any]
    # What it is called as.
    stands_for: ClassVar[str]
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
        self.check_unet(settings)
        self.networks = nn.ModuleDict({str(factor): self.made(settings, factor, kernel_size) for factor in factors})

    @classmethod
    def made(cls, unet: Mapping[str, Any], factor: int, kernel_size: int) -> Any:
        """A new network for one factor."""
        return cls.of_one(**unet) if factor == 1 else cls.of_several(unet, factor, kernel_size)

    @property
    def body(self) -> Any:
        """What runs once a group, of one of the networks: all are told the same of a plan, and decide alike on it."""
        first: Any = next(iter(self.networks.values()))
        return first if isinstance(first, ModelMixin) else first.body

    @property
    def columns(self) -> frozenset[str]:
        """What of a plan it is told: the fusion factor, and what its bodies are told."""
        return frozenset({"fusion"}) | frozenset(getattr(self.body, "columns", ()))

    @property
    def factors(self) -> tuple[int, ...]:
        """The fusion factors there are networks for, the smallest first."""
        return tuple(sorted(self.config["factors"]))

    @property
    @override
    def config(self) -> FrozenDict:
        """The configuration of the network of one image, and this model's own over it."""
        first: Any = next(iter(self.networks.values()))
        unet = first.config if isinstance(first, ModelMixin) else first.config_of_one
        return FrozenDict({**unet, **self._internal_dict})

    @classmethod
    def check_unet(cls, unet: Mapping[str, Any]) -> None:
        """Raises `ModelError` for a network of one image that has no place here, K = 1 included."""
        return

    def network_for(self, fusion: int | None) -> Any:
        """That of a factor; None is the smallest. Raises `ValueError` where there is none."""
        factor = self.factors[0] if fusion is None else fusion
        if str(factor) not in self.networks:
            raise ValueError(f"there is no network for a fusion factor of {factor}: choose from {self.factors}")
        return self.networks[str(factor)]

    def decide(self, plan: Plan) -> Plan:
        """The plan with the fusion factors of this model's policy, and with what its bodies decide themselves."""
        if hasattr(self.body, "decide"):
            plan = self.body.decide(plan)
        policy = self.config["policy"]
        return schedule.fuse(plan, schedule.halving(self.factors) if policy is None else _allocation(policy))

    def check(self, plan: Plan) -> None:
        """Raises `PlanError` for a plan that the bodies have nothing for."""
        if hasattr(self.body, "check"):
            self.body.check(plan)

    def initialise_from(self, trained: Any) -> None:
        """Starts every network from a trained one of one image: see `FusedNetwork.initialise_from`; K = 1 is a copy.

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
