"""Latents brought to another size between two rows: mixed-resolution denoising (PostDiff, section 2.2 and appendix B).

Noise is pooled and lifted by orthonormal maps, so white noise of unit variance stays so: the first latents of a small
row are those of the whole picture seen coarsely, and where a trajectory comes to full size its noise is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch

from headrace.models.pipelines.base import LatentShape
from headrace.plan.crossing import Change, Crossing
from headrace.plan.plan import Plan

Draw = Callable[[], torch.Tensor]


def pooled(noise: torch.Tensor, shape: LatentShape) -> torch.Tensor:
    """White noise [..., C, H, W] averaged to [..., C, h, w], its unit variance restored: still white."""
    if noise.shape[-2:] == shape[1:]:
        return noise
    rows, columns = (
        _orthonormal(small, large).to(noise) for small, large in zip(shape[1:], noise.shape[-2:], strict=True)
    )
    return rows @ noise @ columns.T


def crossed(plan: Plan, change: Change, shape: LatentShape, draw: Draw, first: Draw) -> torch.Tensor:
    """The latents of row `change.row`, [..., C, h, w] of `shape`.

    `draw()` takes white noise of that size from the request's stream, `first()` gives its first noise, of full size.
    """
    row = change.row
    if row == len(plan):
        return resized(change.latents, shape)
    signal, sigma = float(plan.signal[row]), float(plan.sigma[row])
    way = Crossing(int(plan.crossing[row]))
    if way is Crossing.LATENTS:
        lost = 1 - _kept_variance(tuple(change.latents.shape[-2:]), shape[1:])
        return resized(change.latents, shape) + sigma * max(lost, 0.0) ** 0.5 * draw()
    noise = draw() if way is not Crossing.FIRST_NOISE else pooled(first(), shape)
    if way is not Crossing.FRESH_NOISE:
        noise = _refined(_noise_before(plan, change), noise)
    return signal * resized(change.data, shape) + sigma * noise


def resized(image: torch.Tensor, shape: LatentShape) -> torch.Tensor:
    """[..., C, H, W] to [..., C, h, w], bilinear with antialiasing (bicubic: 1 dB further from the plain picture)."""
    planes = image.reshape(-1, 1, *image.shape[-2:])
    result = torch.nn.functional.interpolate(planes, size=shape[1:], mode="bilinear", antialias=True)
    return result.reshape(*image.shape[:-2], *shape[1:])


def _noise_before(plan: Plan, change: Change) -> torch.Tensor:
    """What of the sample of the row before is not its data prediction, at unit variance."""
    row = change.row - 1
    noise: torch.Tensor = (change.sample - float(plan.signal[row]) * change.data) / float(plan.sigma[row])
    return noise


def _refined(coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
    """`fine` with its coarse part replaced: pooled, it gives `coarse`. Where sizes shrink, `coarse` pooled."""
    small, large = coarse.shape[-2:], fine.shape[-2:]
    if small[0] >= large[0] and small[1] >= large[1]:
        return pooled(coarse, (fine.shape[-3], *large))
    rows, columns = (_orthonormal(*sides).to(fine) for sides in zip(small, large, strict=True))
    return fine + rows.T @ (coarse - rows @ fine @ columns.T) @ columns


@lru_cache(maxsize=256)
def _orthonormal(small: int, large: int) -> torch.Tensor:
    """[small, large]: averages over the pixels below each coarse one, made orthonormal (Loewdin 1950)."""
    edges = torch.linspace(0, large, small + 1, dtype=torch.float64)
    pixel = torch.arange(large, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], pixel + 1) - torch.maximum(edges[:-1, None], pixel)
    weights = overlap.clamp(min=0)
    values, vectors = torch.linalg.eigh(weights @ weights.T)
    return (vectors / values.sqrt() @ vectors.T @ weights).float()


@lru_cache(maxsize=256)
def _kept_variance(old: tuple[int, int], new: tuple[int, int]) -> float:
    """Mean variance of white noise of unit variance after `resized`."""
    parts = []
    for before, after in zip(old, new, strict=True):
        lines = torch.eye(before, dtype=torch.float64)[:, None, :].expand(-1, before, -1)
        parts.append(float((resized(lines[:, None], (1, before, after))[:, 0, 0] ** 2).sum(0).mean()))
    return parts[0] * parts[1]
