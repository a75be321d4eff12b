"""Filters that whiten patches of pictures: the first layer of a classifier, without training it."""

from __future__ import annotations

import torch

_FLOOR = 5e-2
"""Added to the variances, of pictures with unit deviation, so that noise is not made as large as a signal.

Six of twelve directions vary by less than 0.006 where a JPEG file keeps colours at half the resolution. (The paper has
5e-4, for pictures that were never compressed.)"""


def whitening_filters(pictures: torch.Tensor, side: int) -> torch.Tensor:
    """Float32 [2 * C * side**2, C, side, side]: the principal directions of the patches and their negatives.

    Each is divided by the deviation of the patches along it, so that a rectifier behind them loses nothing and channels
    with a signal have the same scale (K. Jordan, arXiv:2404.00498, section 3.2). `pictures`: float [N, C, H, W].
    """
    channels = pictures.shape[1]
    patches = pictures.unfold(2, side, 1).unfold(3, side, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, channels * side**2)
    patches = patches.double()
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (directions / (variances + _FLOOR).sqrt()).T.reshape(-1, channels, side, side)
    return torch.cat([filters, -filters]).float()
