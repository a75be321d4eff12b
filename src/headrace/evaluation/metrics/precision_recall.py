"""Improved precision and recall (Kynkaanniemi et al. 2019), with bounded memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from headrace.errors import DataError


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]: of samples that lie among the real pictures, of real ones that lie among the samples."""

    precision: float
    recall: float


def precision_recall(
    real: npt.NDArray[np.floating],
    samples: npt.NDArray[np.floating],
    neighbours: int = 3,
    chunk: int = 2048,
    device: str | torch.device = "cpu",
) -> PrecisionRecall:
    """Of feature rows [N, D] and [M, D]: each set's manifold is the union of balls around its rows.

    A ball reaches to the row's `neighbours`-th nearest other row (equation 1 of the paper, k = 3 in its section 3).
    Distances are float64, in blocks of `chunk` x `chunk`, so memory does not grow with N x M. Raises `DataError`
    where a set has no `neighbours` other rows.
    """
    for name, rows in (("data set", real), ("set of samples", samples)):
        if len(rows) <= neighbours:
            raise DataError(
                f"the {name} has {len(rows)} picture(s), too few for precision and recall with k = {neighbours}",
                f"Give at least {neighbours + 1} pictures",
            )
    blocks = _Blocks(chunk, torch.device(device))
    return PrecisionRecall(
        precision=blocks.share_inside(samples, real, blocks.radii(real, neighbours)),
        recall=blocks.share_inside(real, samples, blocks.radii(samples, neighbours)),
    )


class _Blocks:
    """Squared distances between two sets of rows, a block at a time."""

    def __init__(self, chunk: int, device: torch.device) -> None:
        self._chunk = chunk
        self._device = device

    def radii(self, rows: npt.NDArray[np.floating], neighbours: int) -> torch.Tensor:
        """Squared distance of each row to its k-th nearest other row, [N]."""
        found = []
        for start in range(0, len(rows), self._chunk):
            queries = self._load(rows, start)
            nearest = torch.full((len(queries), 0), torch.inf, dtype=torch.float64, device=self._device)
            for other in range(0, len(rows), self._chunk):
                squared = _squared_distances(queries, self._load(rows, other))
                if other == start:
                    squared.fill_diagonal_(torch.inf)  # a row is not its own neighbour; its duplicates are
                together = torch.cat([nearest, squared], dim=1)
                nearest = together.topk(min(neighbours, together.shape[1]), dim=1, largest=False).values
            found.append(nearest[:, neighbours - 1])
        return torch.cat(found)

    def share_inside(
        self, queries: npt.NDArray[np.floating], centres: npt.NDArray[np.floating], radii: torch.Tensor
    ) -> float:
        """Share of the queries that lie in at least one ball (equation 2)."""
        inside = 0
        for start in range(0, len(queries), self._chunk):
            rows = self._load(queries, start)
            hit = torch.zeros(len(rows), dtype=torch.bool, device=self._device)
            for other in range(0, len(centres), self._chunk):
                squared = _squared_distances(rows, self._load(centres, other))
                hit |= (squared <= radii[other : other + self._chunk]).any(dim=1)
            inside += int(hit.sum())
        return inside / len(queries)

    def _load(self, rows: npt.NDArray[np.floating], start: int) -> torch.Tensor:
        return torch.from_numpy(np.array(rows[start : start + self._chunk], dtype=np.float64)).to(self._device)


def _squared_distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """[n, m]. Rounding, some 1e-16 of the squared norms, is set to zero: else equal rows would be a little apart."""
    x_norms, y_norms = x.square().sum(dim=1)[:, None], y.square().sum(dim=1)[None, :]
    squared = x_norms + y_norms - 2.0 * (x @ y.T)
    return squared.where(squared > 1e-14 * (x_norms + y_norms), 0.0)
