"""The one loop that drives every peer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import UNet2DConditionModel

from headrace.benchmarks._peers.peer import Peer
from headrace.plan import Plan
from headrace.plan.reference import drive, trajectory


@torch.inference_mode()
def sample(
    peer: Peer,
    network: UNet2DConditionModel,
    plan: Plan,
    latents: torch.Tensor,
    encoder_hidden_states: torch.Tensor,
    noise_source: Callable[[], torch.Tensor] | None = None,
) -> torch.Tensor:
    """The final latents [N, C, h, w] of N requests of one plan, in lockstep; the peer is detached whatever happens.

    `latents` are the first ones, float32 of standard deviation `init_noise_sigma`; `encoder_hidden_states` [2N, T, D]
    as `Peer.__call__` takes them. `noise_source()` returns standard-normal noise like `latents`; without it the noise
    comes from a generator of seed 0. Raises what `Peer.attach` raises.
    """
    generator = torch.Generator().manual_seed(0)

    def draw() -> torch.Tensor:
        return torch.randn(latents.shape, generator=generator).to(latents.device)

    peer.attach(network, plan)
    try:
        final: torch.Tensor = drive(
            trajectory(plan, latents, noise_source or draw),
            lambda asked: peer(asked.row, asked.sample, asked.timestep, encoder_hidden_states),
        )
        return final
    finally:
        peer.detach()
