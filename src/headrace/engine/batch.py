"""One network call: the current rows of several slots gathered, evaluated, updated and scattered back.

Where K rows share an evaluation (FuseBatch), a picture depends on those that it is evaluated with: that is the
technique's nature, and the same request with the same seed gives another picture in other company. Its noise never
does: every draw is from the request's own stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from headrace.engine import coefficients as at
from headrace.engine.layout import lay_out
from headrace.engine.previews import Prediction
from headrace.engine.slot import Slot
from headrace.models.denoiser import CONDITIONAL, Rows

Call = Callable[[Rows], torch.Tensor]


class Batch:
    """The current rows of the slots of `groups`, which share a batch key.

    A group shares each of its evaluations: up to K = `fusion` slots that the network is told one timestep for; 1 is
    plain sampling, a slot a group. `columns` are the decision columns that the pipeline's denoiser reads. Nothing of a
    slot changes before `commit`.
    """

    def __init__(
        self, groups: Sequence[Sequence[Slot]], dtype: torch.dtype, columns: Sequence[str] = (), fusion: int = 1
    ) -> None:
        slots = self.slots = [slot for group in groups for slot in group]
        self._fusion = fusion
        self._dtype = dtype
        self._column_names = columns
        self._device = slots[0].latents.device
        self._depth = max(int(slot.table.depth[slot.row]) for slot in slots)
        self._guided = np.array([slot.table.guided[slot.row] for slot in slots])
        self._uncond = np.flatnonzero(self._guided)
        self._layout = lay_out([len(group) for group in groups], self._guided, fusion)
        self._table = self._upload(self._host_table())
        self._latents = torch.stack([slot.latents for slot in slots])

    @property
    def network_rows(self) -> int:
        """Rows of the slots, both guidance branches counted, without padding."""
        return len(self._layout.outputs)

    def _host_table(self) -> npt.NDArray[np.float32]:
        """[N, 10 + depth + 1]: the slots' rows, cut to the deepest register that any of them reads."""
        table = np.zeros((len(self.slots), at.B + 1 + self._depth), dtype=np.float32)
        for line, slot in zip(table, self.slots, strict=True):
            row = slot.table.table[slot.row, : len(line)]
            line[: len(row)] = row
        return table

    def _upload(self, array: npt.NDArray[np.generic]) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        if self._device.type == "cuda":
            return tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor.to(self._device)

    def _column(self, position: int) -> torch.Tensor:
        return self._table[:, position, None, None, None]

    def rows(self) -> Rows:
        """What the network is called with: every slot's conditional row, then the unconditional rows of guided ones.

        Groups of more than one are whole in each branch, padded where they are short.
        """
        sample = (self._latents * self._column(at.INPUT_SCALE)).to(self._dtype)
        if self._fusion > 1:
            # A request whose latents are not finite fails: those that share its evaluations must not.
            sample = sample.nan_to_num(0.0, 0.0, 0.0)
        timestep = self._table[:, at.TIMESTEP]
        indices = self._layout.sources
        if len(indices) > len(self.slots):
            gather = self._upload(indices)
            sample, timestep = sample[gather], timestep[gather]
        return Rows(
            sample=sample,
            timestep=timestep,
            conditioning=self._conditioning(),
            branches=self._layout.branches,
            columns={name: self._decisions(name)[indices] for name in self._column_names},
            caches=[self.slots[index].cache for index in indices],
        )

    def _decisions(self, name: str) -> npt.NDArray[np.generic]:
        """[N, ...]. A plan that decides on no blocks evaluates every one and keeps nothing."""
        if name == "fusion":
            return np.full(len(self.slots), self._fusion)
        decisions = [getattr(slot.job.plan, name)[slot.row] for slot in self.slots]
        width = max(decision.size for decision in decisions)
        return np.stack([one if one.size == width else np.full(width, name == "compute") for one in decisions])

    def _conditioning(self) -> dict[str, torch.Tensor]:
        branches = []
        for index, branch in zip(self._layout.sources.tolist(), self._layout.branches.tolist(), strict=True):
            conditioning = self.slots[index].conditioning
            told = conditioning.positive if branch == CONDITIONAL else conditioning.negative
            assert told is not None
            branches.append(told)
        return {name: torch.stack([told[name] for told in branches]) for name in branches[0]}

    def guide(self, outputs: torch.Tensor) -> torch.Tensor:
        """Classifier-free guidance (Ho and Salimans 2022): u + g (c - u) where rows have both branches.

        What was padding is dropped: [N, C, h, w].
        """
        if not self._layout.plain:
            outputs = outputs.index_select(0, self._upload(self._layout.outputs))
        conditional, unconditional = outputs[: len(self.slots)], outputs[len(self.slots) :]
        if not len(self._uncond):
            return conditional
        scale = self._column(at.GUIDANCE)
        if len(self._uncond) == len(self.slots):
            return unconditional + scale * (conditional - unconditional)
        where = self._upload(self._uncond)
        guided = unconditional + scale[where] * (conditional[where] - unconditional)
        return conditional.index_copy(0, where, guided)

    def predictions(self, outputs: torch.Tensor) -> list[Prediction]:
        """The data predictions that previews are due of; `outputs` as in `commit`, which comes after."""
        return [
            Prediction(slot, slot.row + 1, slot.data_prediction(self._latents[index], outputs[index]))
            for index, slot in enumerate(self.slots)
            if slot.previewed
        ]

    def commit(self, outputs: torch.Tensor) -> torch.Tensor:
        """Moves every slot one row on by x' = a x + sum_k b[k] h[-k] + c out + noise xi, as `headrace.plan` says.

        `outputs` are guided model outputs, [N, C, h, w] float32. Returns [N] flags on the device: latents still finite.
        """
        x = self._latents
        h = self._column(at.P) * x + self._column(at.Q) * outputs
        if any(slot.table.clipped[slot.row] for slot in self.slots):
            h = torch.clamp(h, self._column(at.CLIP_LOW), self._column(at.CLIP_HIGH))
        new = self._column(at.A) * x + self._column(at.B) * h
        for back in range(1, self._depth + 1):
            # A row that does not look back this far multiplies its own finite register by zero.
            earlier = [slot.register(back) if back <= slot.table.history else slot.latents for slot in self.slots]
            new += self._column(at.B + back) * torch.stack(earlier)
        new += self._column(at.C) * outputs
        noise = self._noise()
        if noise is not None:
            new += self._column(at.NOISE) * noise
        if self._fusion > 1:
            for slot, padded in zip(self.slots, self._layout.padded.tolist(), strict=True):
                slot.evaluated[slot.row] = self._fusion, padded
        self._scatter(new, h, outputs)
        return torch.isfinite(new.flatten(1).sum(1))

    def _noise(self) -> torch.Tensor | None:
        draws = [slot.draw() for slot in self.slots]
        if all(draw is None for draw in draws):
            return None
        silent = torch.zeros(self.slots[0].shape)
        stacked = torch.stack([silent if draw is None else draw for draw in draws])
        if self._device.type == "cuda":
            stacked = stacked.pin_memory()
        return stacked.to(self._device, non_blocking=True)

    def _scatter(self, new: torch.Tensor, h: torch.Tensor, outputs: torch.Tensor) -> None:
        targets, sources = [], []
        for index, slot in enumerate(self.slots):
            if slot.table.changes[slot.row]:
                slot.cross(outputs[index], new[index])
                continue
            targets.append(slot.latents)
            sources.append(new[index])
            kept = slot.next_register
            if kept is not None:
                targets.append(kept)
                sources.append(h[index])
            slot.row += 1
        if targets:
            torch._foreach_copy_(targets, sources)
