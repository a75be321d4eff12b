"""Latencies between and beyond grid points: linear in rows, decodings and share of skipped rows."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class Grid:
    """Two quantities, UNet and VAE seconds, on the same axes [rows, decodings, skip shares]."""

    def __init__(self, axes: Sequence[Sequence[float]], unet_s: ArrayLike, vae_s: ArrayLike) -> None:
        self._axes = [list(axis) for axis in axes]
        self._values = np.stack([np.asarray(unet_s, dtype=np.float64), np.asarray(vae_s, dtype=np.float64)], axis=-1)
        self._nested = self._values.tolist()

    def one(self, rows: float, decodings: float, skipped: float) -> tuple[float, float]:
        """UNet and VAE seconds of one round; as `many`, forty times as fast."""
        point = (rows, decodings, skipped / rows if rows > 0 else 0.0)
        unet, vae = self._at(point)
        last = tuple(min(value, axis[-1]) for value, axis in zip(point, self._axes, strict=True))
        if last == point:
            return unet, vae
        least = self._at(last)
        return max(unet, least[0]), max(vae, least[1])

    def many(self, rows: ArrayLike, decodings: ArrayLike, skipped: ArrayLike) -> tuple[Floats, Floats]:
        """UNet and VAE seconds of arrays of rounds that broadcast.

        Beyond the last grid point linear, but never less than there: what a little noise makes fall would fall to 0.
        """
        u, v, s = (np.asarray(value, dtype=np.float64) for value in np.broadcast_arrays(rows, decodings, skipped))
        points = [u, v, np.divide(s, u, out=np.zeros_like(u), where=u > 0)]
        found = self._at_many(points)
        if any((point > axis[-1]).any() for point, axis in zip(points, self._axes, strict=True)):
            last = [np.minimum(point, axis[-1]) for point, axis in zip(points, self._axes, strict=True)]
            found = np.maximum(found, self._at_many(last))
        return found[..., 0], found[..., 1]

    def _at(self, point: Sequence[float]) -> tuple[float, float]:
        unet = vae = 0.0
        (i, a), (j, b), (k, c) = (_cell(axis, value) for axis, value in zip(self._axes, point, strict=True))
        for di, wi in ((0, 1 - a), (1, a)):
            if wi == 0:
                continue
            plane = self._nested[i + di]
            for dj, wj in ((0, 1 - b), (1, b)):
                if wj == 0:
                    continue
                line = plane[j + dj]
                for dk, wk in ((0, 1 - c), (1, c)):
                    if wk == 0:
                        continue
                    weight = wi * wj * wk
                    unet += weight * line[k + dk][0]
                    vae += weight * line[k + dk][1]
        return unet, vae

    def _at_many(self, points: Sequence[Floats]) -> Floats:
        cells = [_cells(axis, point) for axis, point in zip(self._axes, points, strict=True)]
        total = np.zeros((*points[0].shape, 2))
        for corner in np.ndindex(2, 2, 2):
            weight = np.ones_like(points[0])
            index = []
            for (low, share), side in zip(cells, corner, strict=True):
                weight = weight * (share if side else 1 - share)
                index.append(low + side)
            inside = tuple(np.minimum(i, len(axis) - 1) for i, axis in zip(index, self._axes, strict=True))
            total += weight[..., None] * self._values[inside]
        return total


@dataclass(frozen=True)
class Surface:
    """A weighted sum of grids: those of the two nearest measured chunk counts, in proportion to a size's area."""

    parts: Sequence[tuple[float, Grid]]

    def one(self, rows: float, decodings: float, skipped: float) -> tuple[float, float]:
        """UNet and VAE seconds of one round."""
        unet = vae = 0.0
        for weight, grid in self.parts:
            times = grid.one(rows, decodings, skipped)
            unet += weight * times[0]
            vae += weight * times[1]
        return unet, vae

    def many(self, rows: ArrayLike, decodings: ArrayLike, skipped: ArrayLike) -> tuple[Floats, Floats]:
        """UNet and VAE seconds of arrays of rounds that broadcast."""
        found = [(weight, grid.many(rows, decodings, skipped)) for weight, grid in self.parts]
        unet = sum((weight * times[0] for weight, times in found[1:]), found[0][0] * found[0][1][0])
        vae = sum((weight * times[1] for weight, times in found[1:]), found[0][0] * found[0][1][1])
        return unet, vae


def _cell(axis: Sequence[float], point: float) -> tuple[int, float]:
    """The grid point at or before a point, and how far it is to the next; beyond the last, more than 1."""
    if len(axis) == 1:
        return 0, 0.0
    low = min(bisect_right(axis, point) - 1, len(axis) - 2)
    return low, (point - axis[low]) / (axis[low + 1] - axis[low])


def _cells(axis: Sequence[float], points: Floats) -> tuple[NDArray[np.intp], Floats]:
    if len(axis) == 1:
        return np.zeros(points.shape, dtype=np.intp), np.zeros_like(points)
    ends = np.asarray(axis, dtype=np.float64)
    low = np.minimum(np.searchsorted(ends, points, side="right") - 1, len(axis) - 2)
    return low, (points - ends[low]) / (ends[low + 1] - ends[low])
