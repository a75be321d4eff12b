"""Improved precision and recall (Kynkaanniemi et al. 2019), with bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from headrace.errors import DataError

Rows = npt.NDArray[np.floating]
# Share of the squared norms that a row may lie outside a ball and still count: far above the rounding of float64 (some
# 1e-15 of them), so that a row at exactly the radius, or a duplicate of the centre, is never lost to it.
_TOLERANCE = 1e-12


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]: of samples that lie among the real pictures, of real ones that lie among the samples."""

    precision: float
    recall: float


def neighbour_radii(
    rows: Rows, neighbours: int = 3, chunk: int = 2048, device: str | torch.device = "cpu"
) -> torch.Tensor:
    """Squared distance of each row to its k-th nearest other row, float64 [N]. Raises `DataError` with too few rows."""
    _check_count(rows, neighbours, "set")
    return _Blocks(_mean(rows, chunk), chunk, torch.device(device)).radii(rows, neighbours)


def precision_recall(
    real: Rows,
    samples: Rows,
    neighbours: int = 3,
    chunk: int = 2048,
    device: str | torch.device = "cpu",
    real_radii: torch.Tensor | None = None,
) -> PrecisionRecall:
    """Of feature rows [N, D] and [M, D]: each set's manifold is the union of balls around its rows.

    A ball reaches to the row's `neighbours`-th nearest other row (equation 1 of the paper, k = 3 in its section 3), and
    what lies at exactly that distance is inside. Distances are float64, in blocks of `chunk` x `chunk`, so memory does
    not grow with N x M. `real_radii`: what `neighbour_radii` gave for the real rows, where it was computed before (for
    50,000 real pictures it is most of the work). Raises `DataError` where a set has no `neighbours` other rows.
    """
    _check_count(real, neighbours, "data set")
    _check_count(samples, neighbours, "set of samples")
    blocks = _Blocks(_mean(real, chunk), chunk, torch.device(device))
    real_radii = blocks.radii(real, neighbours) if real_radii is None else real_radii
    sample_radii = blocks.radii(samples, neighbours)
    inside_real, inside_samples = blocks.inside(samples, sample_radii, real, real_radii)
    return PrecisionRecall(inside_real.double().mean().item(), inside_samples.double().mean().item())


def _check_count(rows: Rows, neighbours: int, name: str) -> None:
    if len(rows) <= neighbours:
        raise DataError(
            f"the {name} has {len(rows)} picture(s), too few for precision and recall with k = {neighbours}",
            f"Give at least {neighbours + 1} pictures",
        )


def _mean(rows: Rows, chunk: int) -> npt.NDArray[np.float64]:
    """[D], in one pass (the rows may lie on disk)."""
    parts = (np.asarray(rows[start : start + chunk], dtype=np.float64) for start in range(0, len(rows), chunk))
    mean: npt.NDArray[np.float64] = np.sum([part.sum(axis=0) for part in parts], axis=0) / len(rows)
    return mean


class _Blocks:
    """Squared distances between two sets of rows, a block at a time in one buffer.

    A block is one matrix product: [x, |x|^2, 1] . [-2y, 1, |y|^2] = |x - y|^2. Rows are centred first (distances do
    not change), which keeps the cancellation in it small.
    """

    def __init__(self, centre: npt.NDArray[np.float64], chunk: int, device: torch.device) -> None:
        self._centre = centre
        self._chunk = chunk
        self._device = device
        self._buffer = torch.empty(0, dtype=torch.float64, device=device)

    def radii(self, rows: Rows, neighbours: int) -> torch.Tensor:
        """Squared distance of each row to its k-th nearest other row, [N]. Each pair of blocks is computed once."""
        shape = (len(rows), neighbours)
        nearest = torch.full(shape, torch.inf, dtype=torch.float64, device=self._device)
        for mine in self._starts(rows):
            x = self._load(rows, mine)
            for theirs in self._starts(rows, mine):
                squared = self._squared(x, x if theirs == mine else self._load(rows, theirs))
                if theirs == mine:
                    squared.fill_diagonal_(torch.inf)  # a row is not its own neighbour; its duplicates are
                else:
                    _merge(nearest[theirs : theirs + self._chunk], squared.T)
                _merge(nearest[mine : mine + self._chunk], squared)
        return nearest[:, -1].clamp(min=0.0)

    def inside(
        self, first: Rows, first_radii: torch.Tensor, second: Rows, second_radii: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows of the first set in a ball of the second [N], and the other way round [M]), bool (equation 2)."""
        in_second = torch.zeros(len(first), dtype=torch.bool, device=self._device)
        in_first = torch.zeros(len(second), dtype=torch.bool, device=self._device)
        for mine in self._starts(first):
            x, x_radii = self._load(first, mine), first_radii[mine : mine + self._chunk, None]
            for theirs in self._starts(second):
                y, y_radii = self._load(second, theirs), second_radii[None, theirs : theirs + self._chunk]
                beyond = self._squared(x, y, 1.0 - _TOLERANCE).sub_(y_radii)
                in_second[mine : mine + self._chunk] |= beyond.amin(dim=1) <= 0
                beyond.add_(y_radii).sub_(x_radii)
                in_first[theirs : theirs + self._chunk] |= beyond.amin(dim=0) <= 0
        return in_second, in_first

    def _starts(self, rows: Rows, first: int = 0) -> Iterator[int]:
        return iter(range(first, len(rows), self._chunk))

    def _load(self, rows: Rows, start: int) -> torch.Tensor:
        values = np.asarray(rows[start : start + self._chunk], dtype=np.float64) - self._centre
        return torch.from_numpy(values).to(self._device)

    def _squared(self, x: torch.Tensor, y: torch.Tensor, share: float = 1.0) -> torch.Tensor:
        """[n, m], each less 1 - `share` of its two squared norms; valid until the next call."""
        x_norms, y_norms = (rows.square().sum(dim=1, keepdim=True) * share for rows in (x, y))
        left = torch.cat([x, x_norms, torch.ones_like(x_norms)], dim=1)
        right = torch.cat([-2.0 * y, torch.ones_like(y_norms), y_norms], dim=1)
        size = len(x) * len(y)
        if len(self._buffer) < size:
            self._buffer = torch.empty(size, dtype=torch.float64, device=self._device)
        return torch.mm(left, right.T, out=self._buffer[:size].view(len(x), len(y)))


def _merge(nearest: torch.Tensor, squared: torch.Tensor) -> None:
    """Lets the distances [n, m] of more rows into the k smallest so far [n, k], sorted, in place."""
    found = squared.topk(min(nearest.shape[1], squared.shape[1]), dim=1, largest=False).values
    nearest.copy_(torch.cat([nearest, found], dim=1).topk(nearest.shape[1], dim=1, largest=False).values)
