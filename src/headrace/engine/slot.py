"""A request's place in the engine, with all the state that belongs to it and to nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from headrace.engine import coefficients as at
from headrace.engine.coefficients import coefficients
from headrace.engine.grouping import FusedRow
from headrace.engine.snapshot import Snapshot, resumable
from headrace.models.conditioning import Conditioning, Signature
from headrace.models.crossing import crossed, pooled
from headrace.models.pipelines.base import LatentShape
from headrace.models.slot_cache import SlotCache
from headrace.plan.crossing import Change
from headrace.plan.plan import Plan
from headrace.request import Request

if TYPE_CHECKING:
    from headrace.engine.decoding import Decoding

BatchKey = tuple[LatentShape, Signature, tuple[float, ...]]


@dataclass(frozen=True)
class Job:
    """A request that was checked and planned; waiting, it holds no tensors.

    `shape` is that of the finished latents and `sizes` that of a row of each scale in the plan, 1 among them.
    `cache_bytes` are those of what its blocks will keep, `snapshot` is what it goes on from, if anything. Previews are
    made after as many rows as `previews` says. `acceleration` is the one that was asked for.
    """

    number: int
    request: Request
    plan: Plan
    shape: LatentShape
    sizes: Mapping[float, LatentShape]
    cache_bytes: int = 0
    snapshot: Snapshot | None = None
    previews: frozenset[int] = frozenset()
    acceleration: str | None = None

    @property
    def row(self) -> int:
        """Plan rows done before it gets a slot."""
        return 0 if self.snapshot is None else self.snapshot.row


class Slot:
    """Latents, registers, random stream, conditioning and kept block values of one resident request.

    `latents` is [C, h, w] float32 on the device, of the size of the row that comes next; registers are a ring of the
    last ones, allocated where the size changes. `conditionings` are those of each scale in the plan. `decoding` is how
    far the decoder is, once it began. `evaluated` has of each row that shared its evaluation the K that it was of, and
    whether its group was padded.
    """

    decoding: Decoding | None = None

    def __init__(self, index: int, job: Job, conditionings: Mapping[float, Conditioning], device: torch.device) -> None:
        self.index = index
        self.job = job
        self.table = coefficients(job.plan)
        self._conditionings = conditionings
        self._device = device
        self.cache = SlotCache()
        self.evaluated: dict[int, tuple[int, bool]] = {}
        self.row = job.row
        self.generator = self._stream()
        if job.snapshot is None:
            noise = pooled(self._noise(self.generator, job.shape), self.shape)
            self.latents = (noise * job.plan.init_noise_sigma).to(device)
            self._ring = self._registers()
        else:
            self._resume(job.snapshot)

    @property
    def done(self) -> bool:
        """Whether every row was evaluated."""
        return self.row >= len(self.table)

    @property
    def shape(self) -> LatentShape:
        """Of the latents of the row that comes next; after the last row, of the finished ones."""
        return self.job.sizes[self.table.scales[self.row]]

    @property
    def conditioning(self) -> Conditioning:
        """What the network is told in the row that comes next."""
        return self._conditionings[self.table.scales[self.row]]

    @property
    def key(self) -> BatchKey:
        """What rows must agree on to share a network call: latent shape, conditioning shapes and the key columns.

        Fusion apart: a short group falls back to another K, so who shares a call is then up to grouping.
        """
        return self.shape, self.conditioning.signature, self.table.keys[self.row]

    @property
    def guided(self) -> bool:
        """Whether the row that comes next evaluates both guidance branches."""
        return bool(self.table.guided[self.row])

    @property
    def fused_row(self) -> FusedRow:
        """The row that comes next, as grouping sees it."""
        table, row = self.table, self.row
        told = float(table.table[row, at.TIMESTEP]), float(table.table[row, at.INPUT_SCALE])
        return FusedRow(table.fusion[row], *told, self.guided, table.group_keys[row])

    @property
    def fusion_record(self) -> dict[str, list[int]]:
        """What the rows were evaluated with, where any of them shared its evaluation; empty where none did.

        "fusion_rows": K of each row. "padded_rows": rows, counted from 0, whose group was short and was padded; left
        out where there are none.
        """
        if not self.evaluated and (self.job.plan.fusion == 1).all():
            return {}
        factors = [self.evaluated[row][0] if row in self.evaluated else 1 for row in range(self.row)]
        padded = [row for row, (_, short) in self.evaluated.items() if short]
        return {"fusion_rows": factors, **({"padded_rows": padded} if padded else {})}

    def snapshot(self) -> Snapshot | None:
        """A copy of what goes on from here, on the host; on CUDA that waits for the device.

        None where rows to come reuse kept block values, or the decoding has begun.
        """
        if self.decoding is not None or not resumable(self.job.plan, self.row):
            return None
        registers = torch.stack(self._ring) if self._ring else torch.zeros((0, *self.shape))
        kept = (self.latents, registers, self.generator.get_state())
        latents, ring, stream = (np.array(tensor.cpu()) for tensor in kept)
        return Snapshot(self.row, self.job.plan, latents, ring, stream, dict(self.evaluated))

    def _resume(self, snapshot: Snapshot) -> None:
        self.generator.set_state(torch.from_numpy(snapshot.stream.copy()))
        self.evaluated.update(snapshot.evaluated)
        self.latents = torch.tensor(snapshot.latents, device=self._device)
        self._ring = list(torch.tensor(snapshot.registers, device=self._device).unbind(0))

    def replan(self, job: Job) -> None:
        """Goes on with another plan of this job, equal in the rows that are done (`headrace.engine.replanning`)."""
        self.job = job
        self.table = coefficients(job.plan)

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
            last = self._noise(self.generator, self.shape)
        return last if self.table.noisy[self.row] else None

    @property
    def previewed(self) -> bool:
        """Whether a preview is due after the row that comes next."""
        return self.row + 1 in self.job.previews

    def data_prediction(self, sample: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """What this row, whose guided output is given, predicts the finished latents to be: [C, h, w]."""
        plan, row = self.job.plan, self.row
        low, high = plan.clip[row].tolist()
        return (float(plan.data_p[row]) * sample + float(plan.data_q[row]) * output).clamp(low, high)

    def cross(self, output: torch.Tensor, latents: torch.Tensor) -> None:
        """Moves on to a row of another size: `output` [C, h, w] is this row's, guided, and led to `latents`."""
        plan, sample = self.job.plan, self.latents
        data = self.data_prediction(sample, output)
        self.row += 1
        shape = self.shape
        change = Change(self.row, sample, data, latents)
        self.latents = crossed(
            plan,
            change,
            shape,
            draw=lambda: self._noise(self.generator, shape).to(self._device),
            first=lambda: self._noise(self._stream(), self.job.shape).to(self._device),
        )
        self._ring = self._registers()

    def _registers(self) -> list[torch.Tensor]:
        return list(torch.zeros((self.table.history, *self.shape), device=self._device).unbind(0))

    def _stream(self) -> torch.Generator:
        """The request's random stream from its beginning: the CPU's on every device, so a seed is one picture."""
        return torch.Generator("cpu").manual_seed(self.job.request.seed)

    @staticmethod
    def _noise(generator: torch.Generator, shape: LatentShape) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float32)
