"""A request's place in the engine, with all the state that belongs to it and to nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from headrace.engine.coefficients import coefficients
from headrace.models.conditioning import Conditioning, Signature
from headrace.models.pipelines.base import LatentShape
from headrace.models.slot_cache import SlotCache
from headrace.plan.plan import Plan
from headrace.request import Request

BatchKey = tuple[LatentShape, Signature, tuple[float, ...]]


@dataclass(frozen=True)
class Job:
    """A request that was checked and planned; waiting, it holds no tensors.

    `cache_bytes` are those of what its blocks will keep.
    """

    number: int
    request: Request
    plan: Plan
    shape: LatentShape
    cache_bytes: int = 0


class Slot:
    """Latents, registers, random stream, conditioning and kept block values of one resident request.

    `latents` is [C, h, w] float32 on the device; `registers` is a ring of the last model registers, allocated once.
    """

    def __init__(self, index: int, job: Job, conditioning: Conditioning, device: torch.device) -> None:
        self.index = index
        self.job = job
        self.table = table = coefficients(job.plan)
        self.conditioning = conditioning
        self.cache = SlotCache()
        self.row = 0
        # The stream is the CPU's on every device, so a seed means the same picture everywhere.
        self.generator = torch.Generator("cpu").manual_seed(job.request.seed)
        noise = torch.randn(job.shape, generator=self.generator, dtype=torch.float32)
        self.latents = (noise * job.plan.init_noise_sigma).to(device)
        self._ring = list(torch.zeros((table.history, *job.shape), device=device).unbind(0))

    @property
    def done(self) -> bool:
        """Whether every row was evaluated."""
        return self.row >= len(self.table)

    @property
    def key(self) -> BatchKey:
        """What rows must agree on to share a network call: latent shape, conditioning shapes and the key columns."""
        return self.job.shape, self.conditioning.signature, self.table.keys[self.row]

    @property
    def network_rows(self) -> int:
        """Network rows that the current plan row costs: two where guidance is on."""
        return 2 if self.table.guided[self.row] else 1

    def register(self, back: int) -> torch.Tensor:
        """The register of `back` rows ago (1 = the row before). Zeros before the first."""
        return self._ring[(self.row - back) % len(self._ring)]

    @property
    def next_register(self) -> torch.Tensor | None:
        """Where this row's register is kept for later rows; None where no later row reads one."""
        return self._ring[self.row % len(self._ring)] if self._ring else None

    def draw(self) -> torch.Tensor | None:
        """Takes this row's draws from the request's stream: the last one, or None where the update uses none."""
        last = None
        for _ in range(int(self.table.draws[self.row])):
            last = torch.randn(self.job.shape, generator=self.generator, dtype=torch.float32)
        return last if self.table.noisy[self.row] else None
