"""What all contestants of a comparison have in common, and the network without any cache as the first of them."""

from __future__ import annotations

from typing import ClassVar, Protocol

import torch
from diffusers import UNet2DConditionModel

from headrace.benchmarks._peers.patches import Patches
from headrace.errors import HeadraceError, PlanError
from headrace.plan import Plan


class Peer(Protocol):
    """One way to evaluate a plan's rows on a text-to-image U-Net, for N requests in lockstep.

    Attributes:
        name: what a table calls it, with its settings.
        source: the paper.
        claim: what the paper reports for Stable Diffusion, or for the nearest model that it has.
    """

    name: str
    source: str
    claim: str

    def steps(self, wanted: int) -> int:
        """How many solver steps this peer takes where the others take `wanted`."""
        ...

    def attach(self, network: UNet2DConditionModel, plan: Plan) -> None:
        """Prepares the network for trajectories of this plan. Raises `HeadraceError` before anything is changed."""
        ...

    def detach(self) -> None:
        """Leaves the network as it was before `attach`, and forgets every cached value."""
        ...

    def __call__(
        self, row: int, sample: torch.Tensor, timestep: float, encoder_hidden_states: torch.Tensor
    ) -> torch.Tensor:
        """The guided model output of one row, [N, C, h, w] float32; row 0 begins a new trajectory.

        `sample` [N, C, h, w] is already multiplied by `input_scale`; `encoder_hidden_states` [2N, T, D] holds the
        conditional rows first and the unconditional rows behind them, as the engine batches them. Raises
        `HeadraceError` where no network is attached.
        """
        ...


class Uncached:
    """The network itself: both branches of guidance in one call, nothing saved. The other peers build on it."""

    name = "no cache"
    source = "Ho and Salimans 2022 (classifier-free guidance)"
    claim = "x1"
    caches: ClassVar[bool] = False  # whether values outlive a row

    def __init__(self) -> None:
        self._network: UNet2DConditionModel | None = None
        self._patches: Patches | None = None
        self._guidance: list[float] = []

    def steps(self, wanted: int) -> int:
        """All of them."""
        return wanted

    def attach(self, network: UNet2DConditionModel, plan: Plan) -> None:
        """See `Peer.attach`. A peer that caches needs all rows guided or none: its values are those of one batch."""
        if self._network is not None:
            raise HeadraceError(f"the peer {self.name!r} is attached to a network", "Detach it first")
        guided = plan.guidance != 1.0
        if self.caches and guided.any() and not guided.all():
            raise PlanError(
                f"column guidance, row {int(guided.argmin())}: {self.name} keeps values of both branches or of one",
                "Guide every row or none",
            )
        self._check(network, plan)
        self._guidance = plan.guidance.tolist()
        self._network, self._patches = network, Patches(network)
        self._patch(network, plan)

    def detach(self) -> None:
        """See `Peer.detach`; does nothing where no network is attached."""
        if self._network is None or self._patches is None:
            return
        self._unpatch(self._network)
        self._patches.remove()
        self._network = self._patches = None

    def __call__(
        self, row: int, sample: torch.Tensor, timestep: float, encoder_hidden_states: torch.Tensor
    ) -> torch.Tensor:
        """See `Peer.__call__`."""
        if self._network is None:
            raise HeadraceError(f"the peer {self.name!r} has no network", "Attach it first")
        if row == 0:
            self._start()
        scale = self._guidance[row]
        if not self._both_branches(row):
            return self._evaluate(row, sample, timestep, encoder_hidden_states[: len(sample)])
        outputs = self._evaluate(row, torch.cat([sample, sample]), timestep, encoder_hidden_states)
        conditional, unconditional = outputs.chunk(2)
        return unconditional + scale * (conditional - unconditional)

    def _evaluate(
        self, row: int, sample: torch.Tensor, timestep: float, encoder_hidden_states: torch.Tensor
    ) -> torch.Tensor:
        """One network call, in the network's dtype; float32 outputs. The timestep stays on the host till inside."""
        network = self._network
        assert network is not None
        told = torch.tensor(timestep, dtype=torch.float32)
        return network(sample.to(network.dtype), told, encoder_hidden_states, return_dict=False)[0].float()

    def _both_branches(self, row: int) -> bool:
        return self._guidance[row] != 1.0

    def _check(self, network: UNet2DConditionModel, plan: Plan) -> None:
        """Raises `HeadraceError` where this plan of this network cannot be evaluated so."""

    def _patch(self, network: UNet2DConditionModel, plan: Plan) -> None:
        """Changes the network; whatever attributes this leaves on modules, `detach` takes off."""

    def _unpatch(self, network: UNet2DConditionModel) -> None:
        """Undoes what is more than attributes on modules."""

    def _start(self) -> None:
        """Forgets the trajectory before."""
