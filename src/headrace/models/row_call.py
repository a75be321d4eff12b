"""One call of a network with cached blocks: which rows evaluate a block, which reuse, and where their values are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from headrace.models.denoiser import Rows

Indices = npt.NDArray[np.int64]
ScaleShift = tuple[torch.Tensor, torch.Tensor]


class BlockObserver(Protocol):
    """Is told what a block added: its number in the cache and the values of the evaluated rows, [n, ...]."""

    def __call__(self, block: int, value: torch.Tensor) -> None:
        """`value` is C_i of equation 5."""
        ...


class Adjustment(Protocol):
    """Scale and shift of reused values by timestep (section 3.4): `scale * value + shift`, per channel."""

    def at(self, timesteps: npt.NDArray[np.float64]) -> Sequence[ScaleShift]:
        """For timesteps [N], the scale [N, C] and shift [N, C] of every block of the cache."""
        ...


class RowCall:
    """The decisions of a call's rows. Lives as long as the call."""

    def __init__(
        self, rows: Rows, dtype: torch.dtype, adjustment: Adjustment | None, observer: BlockObserver | None
    ) -> None:
        self._rows = rows
        self._dtype = dtype
        self._adjustment = adjustment
        self._observer = observer
        self._compute = _mask(rows, "compute")
        self._keep = _mask(rows, "keep") if rows.caches else None
        self._uploaded: dict[bytes, torch.Tensor] = {}

    def split(self, block: int) -> tuple[Indices, Indices]:
        """Row numbers that evaluate the block, and those that reuse."""
        if self._compute is None:
            return np.arange(len(self._rows)), np.arange(0)
        computes = self._compute[:, block]
        return np.flatnonzero(computes), np.flatnonzero(~computes)

    def upload(self, indices: Indices) -> torch.Tensor:
        """Row numbers on the device, without waiting for it; many blocks of a call have the same."""
        key = indices.tobytes()
        if key not in self._uploaded:
            host = torch.from_numpy(indices)
            cuda = self._rows.sample.device.type == "cuda"
            self._uploaded[key] = (host.pin_memory() if cuda else host).to(self._rows.sample.device, non_blocking=True)
        return self._uploaded[key]

    def keeps(self, block: int) -> bool:
        """Whether anybody wants what the block's evaluated rows add."""
        return self._observer is not None or (self._keep is not None and bool(self._keep[:, block].any()))

    def keep(self, block: int, rows: Indices, output: torch.Tensor, residual: torch.Tensor) -> None:
        """Keeps what the block added to the evaluated rows that are reused next; `output`, `residual` are of `rows`."""
        if self._observer is not None:
            self._observer(block, output - residual)
        wanted = [] if self._keep is None else np.flatnonzero(self._keep[rows, block]).tolist()
        if not wanted:
            return
        outputs, residuals = output.detach().unbind(0), residual.detach().unbind(0)
        values = torch._foreach_sub([outputs[place] for place in wanted], [residuals[place] for place in wanted])
        for place, value in zip(wanted, values, strict=True):
            row = int(rows[place])
            self._values(row)[block, int(self._rows.branches[row])] = value.to(self._dtype)

    def reuse(self, block: int, rows: Indices, residual: torch.Tensor) -> torch.Tensor:
        """The block's output for rows that reuse: their residual plus the kept value, scaled and shifted."""
        kept = [self._values(row)[block, int(self._rows.branches[row])] for row in rows.tolist()]
        value = torch.stack(kept).to(residual.dtype)
        if self._adjustments is None:
            return residual + value
        scale, shift = (self._take(part, rows) for part in self._adjustments[block])
        places = (slice(None), slice(None), None, None) if value.dim() == 4 else (slice(None), None, slice(None))
        return torch.addcmul(residual + shift[places].to(value.dtype), value, scale[places].to(value.dtype))

    def _values(self, row: int) -> dict[tuple[int, int], torch.Tensor]:
        return self._rows.caches[row].values

    def _take(self, part: torch.Tensor, rows: Indices) -> torch.Tensor:
        return part if len(rows) == len(part) else part.index_select(0, self.upload(rows))

    @cached_property
    def _adjustments(self) -> Sequence[ScaleShift] | None:
        if self._adjustment is None:
            return None
        return self._adjustment.at(np.asarray(self._rows.columns["timestep"], np.float64))


def _mask(rows: Rows, name: str) -> npt.NDArray[np.bool_] | None:
    """A [N, B] column of decisions; None where no row decides on blocks."""
    decisions = rows.columns.get(name)
    return None if decisions is None or not decisions.shape[1] else np.asarray(decisions, np.bool_)
