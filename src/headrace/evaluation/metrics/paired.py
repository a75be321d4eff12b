"""How close two pictures are that ought to be the same one."""

from __future__ import annotations

import torch

from headrace.errors import DataError, HeadraceError


def psnr(pictures: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB of each pair, uint8 [N, 3, H, W] -> [N]; infinite for equal pictures.

    Raises `DataError` for different shapes.
    """
    from torch.nn.functional import mse_loss

    _check(pictures, references)
    error = mse_loss(pictures.double(), references.double(), reduction="none").flatten(1).mean(dim=1)
    return 10.0 * torch.log10(255.0**2 / error)


def ssim(pictures: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """Structural similarity of each pair, uint8 [N, 3, H, W] -> [N] in [-1, 1].

    Wang et al. (2004): Gaussian window with sigma 1.5, 11 x 11, mean over the channels (torchmetrics). Raises
    `DataError` for different shapes or pictures smaller than the window, `HeadraceError` without torchmetrics.
    """
    try:
        from torchmetrics.functional.image import structural_similarity_index_measure as measure
    except ImportError:
        raise HeadraceError(
            "SSIM needs torchmetrics, which is not installed", "pip install 'headrace[evaluate]'"
        ) from None
    _check(pictures, references)
    if min(pictures.shape[-2:]) < 11:
        raise DataError(
            f"SSIM of pictures of {tuple(pictures.shape[-2:])} pixels is asked for", "Give at least 11 x 11"
        )
    # In float32: 13 times as fast as in float64 on a CPU; within 2e-4 of it where pictures are flat, else 2e-6.
    value = measure(pictures.float(), references.float(), data_range=255.0, reduction="none")
    assert isinstance(value, torch.Tensor)
    return value.reshape(len(pictures))


def cosine(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Cosine of each pair of feature rows, [N, D] -> [N], in float64."""
    return torch.nn.functional.cosine_similarity(first.double(), second.double(), dim=1)


def _check(pictures: torch.Tensor, references: torch.Tensor) -> None:
    if pictures.shape != references.shape:
        raise DataError(
            f"pictures of shapes {tuple(pictures.shape)} and {tuple(references.shape)} are no pairs",
            "Give pictures of equal sizes",
        )
