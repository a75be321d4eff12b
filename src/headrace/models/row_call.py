"""One call of a network with cached blocks: which rows evaluate a block, which reuse, and where their values are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

from headrace.models.denoiser import CONDITIONAL, UNCONDITIONAL, Rows

if TYPE_CHECKING:
    from headrace.models.row_cache import RowCache

Indices = npt.NDArray[np.int64]
ScaleShift = tuple[torch.Tensor, torch.Tensor]
# Which guidance branch's value a row reuses (PostDiff, supplement, Fig. 7): its own, or the same one in both branches.
Source = Literal["own", "conditional", "unconditional", "mean"]

_SHARED = 0  # the place of a value that both guidance branches reuse


class BlockObserver(Protocol):
    """Is told what a block added: its number in the cache and the values of the evaluated rows, [n, ...]."""

    def __call__(self, block: int, value: torch.Tensor) -> None:
        """`value` is C_i of equation 5."""
        ...


class Adjustment(Protocol):
    """Scale and shift of reused values by timestep (section 3.4): `scale * value + shift`, per channel."""

    def at(self, timesteps: npt.NDArray[np.float64]) -> Sequence[ScaleShift]:
        """For timesteps [N], the scale [N, C] and shift [N, C] of the cache's transformer and ResNet blocks in turn."""
        ...


class RowCall:
    """The decisions of a call's rows. Lives as long as the call.

    Blocks lie inside others. Where the outer one is evaluated for some rows only, only those are *active* in the inner
    one: `split`, `keep`, `reuse` and `filled` speak of places among the active rows.
    """

    def __init__(self, rows: Rows, cache: RowCache) -> None:
        self._rows = rows
        self._cache = cache
        self._compute = _mask(rows, "compute")
        self._keep = _mask(rows, "keep") if rows.caches else None
        self._active: Indices = np.arange(len(rows))
        self._held: dict[int, torch.Tensor] = {}
        self._uploaded: dict[bytes, torch.Tensor] = {}
        self._adjustments: dict[int, Sequence[ScaleShift]] = {}

    @property
    def count(self) -> int:
        """How many rows are active."""
        return len(self._active)

    @contextmanager
    def among(self, places: Indices) -> Iterator[None]:
        """Around a block that is evaluated for these places alone: they are what is active inside it."""
        outer, self._active = self._active, self._active[places]
        try:
            yield
        finally:
            self._active = outer

    def split(self, block: int) -> tuple[Indices, Indices]:
        """Places that evaluate the block, and those that reuse."""
        if self._compute is None:
            return np.arange(self.count), np.arange(0)
        computes = self._compute[self._active][:, self._cache.columns_of[block]].all(axis=1)
        return np.flatnonzero(computes), np.flatnonzero(~computes)

    def upload(self, indices: Indices) -> torch.Tensor:
        """Indices on the device, without waiting for it; many blocks of a call have the same."""
        key = indices.tobytes()
        if key not in self._uploaded:
            host = torch.from_numpy(indices)
            cuda = self._rows.sample.device.type == "cuda"
            self._uploaded[key] = (host.pin_memory() if cuda else host).to(self._rows.sample.device, non_blocking=True)
        return self._uploaded[key]

    def hold(self, block: int, hidden_states: torch.Tensor) -> None:
        """Remembers, for this call, what went into a branch of which only the last module knows what it added."""
        self._held[block] = hidden_states

    def held(self, block: int) -> torch.Tensor | None:
        """What went into the branch, [n, ...]; None where its value is not added to anything."""
        return self._held.get(block)

    def keeps(self, block: int) -> bool:
        """Whether anybody wants the block's value of the active rows, all of which evaluate it."""
        if self._cache.observer is not None:
            return True
        return self._keep is not None and bool(self._keep[self._active][:, self._cache.columns_of[block]].any())

    def keep(self, block: int, places: Indices, output: torch.Tensor, residual: torch.Tensor | None) -> None:
        """Keeps the block's value for the evaluated places that are reused later; `output`, `residual` are of `places`.

        The value is what was added to the residual, or the output itself where there is none.
        """
        if self._cache.observer is not None:
            self._cache.observer(block, output if residual is None else output - residual)
        rows = self._active[places]
        for column in self._cache.columns_of[block]:
            wanted = self._wanted(column, rows).tolist()
            if wanted:
                self._store(column, rows[wanted], _values(wanted, output, residual))

    def _wanted(self, column: int, rows: Indices) -> Indices:
        """Places among `rows` whose value is kept."""
        if self._keep is None:
            return np.arange(0)
        wanted = self._keep[rows, column]
        source = self._cache.source_of(column)
        if source in ("conditional", "unconditional"):
            wanted = wanted & (self._rows.branches[rows] == (CONDITIONAL if source == "conditional" else UNCONDITIONAL))
        return np.flatnonzero(wanted)

    def _store(self, column: int, rows: Indices, values: list[torch.Tensor]) -> None:
        if self._cache.source_of(column) == "mean":
            rows, values = self._means(rows, values)
        dtype = self._cache.dtype_of(column)
        for row, value in zip(rows.tolist(), values, strict=True):
            self._rows.caches[row].values[column, self._place(column, row)] = value.to(dtype)

    def _means(self, rows: Indices, values: list[torch.Tensor]) -> tuple[Indices, list[torch.Tensor]]:
        """One row of each request, and the mean of its guidance branches' values."""
        of_request: dict[int, list[int]] = {}
        for place, row in enumerate(rows.tolist()):
            of_request.setdefault(id(self._rows.caches[row]), []).append(place)
        means = [torch.stack([values[place] for place in places]).mean(0) for places in of_request.values()]
        return rows[[places[0] for places in of_request.values()]], means

    def reuse(self, block: int, places: Indices, residual: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
        """The block's output for places that reuse: the kept value, scaled and shifted, on top of their residual."""
        rows = self._active[places]
        columns = self._reused(block, rows)
        kept = [
            self._rows.caches[row].values[column, self._place(column, row)]
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        ]
        value = torch.stack(kept).to(dtype)
        if residual is None:
            return value
        present = np.unique(columns).tolist() if len(columns) > 1 else columns.tolist()
        if len(present) == 1:
            return self._added(present[0], rows, residual, value)
        output = torch.empty_like(residual)
        for column in present:
            of_one = np.flatnonzero(columns == column)
            index = self.upload(of_one)
            added = self._added(column, rows[of_one], residual.index_select(0, index), value.index_select(0, index))
            output.index_copy_(0, index, added)
        return output

    def _reused(self, block: int, rows: Indices) -> Indices:
        """The column by which each of these rows, which reuse the block's value, does so."""
        columns = np.asarray(self._cache.columns_of[block])
        if len(columns) == 1 or self._compute is None:
            return np.full(len(rows), columns[0])
        return np.asarray(columns[np.argmin(self._compute[rows][:, columns], axis=1)])

    def _added(self, column: int, rows: Indices, residual: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """The values of these rows, adjusted as the column says, on top of their residual."""
        adjustment = self._adjustment(column)
        if adjustment is None:
            return residual + value
        scale, shift = (self._take(part, rows) for part in adjustment)
        spread = (slice(None), slice(None), None, None) if value.dim() == 4 else (slice(None), None, slice(None))
        return torch.addcmul(residual + shift[spread].to(value.dtype), value, scale[spread].to(value.dtype))

    def filled(self, block: int, evaluated: torch.Tensor, residual: torch.Tensor | None) -> torch.Tensor:
        """The output of every active row: `evaluated` where the block was, the kept value where not.

        `residual` [n, ...] is of every active row.
        """
        computing, reusing = self.split(block)
        compute, reuse = self.upload(computing), self.upload(reusing)
        own = None if residual is None else residual.index_select(0, reuse)
        reused = self.reuse(block, reusing, own, evaluated.dtype)
        if residual is None:
            # Put together in the memory format of the evaluated rows.
            order = self.upload(np.argsort(np.concatenate([computing, reusing])))
            return torch.cat([evaluated, reused]).index_select(0, order)
        output = torch.empty_like(residual)
        return output.index_copy_(0, compute, evaluated).index_copy_(0, reuse, reused)

    def _place(self, column: int, row: int) -> int:
        return int(self._rows.branches[row]) if self._cache.source_of(column) == "own" else _SHARED

    def _take(self, part: torch.Tensor, rows: Indices) -> torch.Tensor:
        return part if len(rows) == len(part) else part.index_select(0, self.upload(rows))

    def _adjustment(self, column: int) -> ScaleShift | None:
        found = self._cache.adjustment_of(column)
        if found is None:
            return None
        adjustment, number = found
        if id(adjustment) not in self._adjustments:
            timesteps = np.asarray(self._rows.columns["timestep"], np.float64)
            self._adjustments[id(adjustment)] = adjustment.at(timesteps)
        return self._adjustments[id(adjustment)][number]


def _values(wanted: list[int], output: torch.Tensor, residual: torch.Tensor | None) -> list[torch.Tensor]:
    """What the block added in these places."""
    outputs = output.detach().unbind(0)
    values = [outputs[place] for place in wanted]
    if residual is None:
        # Copies: a row of an output would keep the whole batch alive, whatever a slot is counted with.
        return [value.clone() for value in values]
    residuals = residual.detach().unbind(0)
    return list(torch._foreach_sub(values, [residuals[place] for place in wanted]))


def _mask(rows: Rows, name: str) -> npt.NDArray[np.bool_] | None:
    """A [N, B] column of decisions; None where no row decides on blocks."""
    decisions = rows.columns.get(name)
    return None if decisions is None or not decisions.shape[1] else np.asarray(decisions, np.bool_)
