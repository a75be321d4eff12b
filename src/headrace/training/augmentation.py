"""Random views of pictures, all of a batch at once."""

from __future__ import annotations

import torch
from torch.nn.functional import pad


def shifted(images: torch.Tensor, moves: torch.Tensor, mirrored: torch.Tensor, most: int) -> torch.Tensor:
    """uint8 [N, C, H, W] moved by int [N, 2] rows and columns, `most` at most, and mirrored where bool [N] says so.

    What comes in from outside is the picture reflected at its edge.
    """
    count, _, height, width = images.shape
    device = images.device
    rows = moves[:, :1] + most + torch.arange(height, device=device)
    columns = torch.arange(width, device=device).expand(count, width)
    columns = moves[:, 1:] + most + torch.where(mirrored[:, None], columns.flip(1), columns)
    padded = pad(images.float(), (most,) * 4, mode="reflect").to(images.dtype) if most else images
    which = torch.arange(count, device=device)[:, None, None]
    return padded[which, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cut_out(images: torch.Tensor, centres: torch.Tensor, side: int, fill: torch.Tensor) -> torch.Tensor:
    """Float [N, C, H, W] with a square of `side` pixels about each centre (int [N, 2]) replaced by `fill` [1, C, 1, 1].

    What of the square lies outside is lost (DeVries and Taylor, arXiv:1708.04552).
    """
    inside = []
    for axis, length in enumerate(images.shape[2:]):
        distance = torch.arange(length, device=images.device) - (centres[:, axis : axis + 1] - side // 2)
        inside.append((distance >= 0) & (distance < side))
    return torch.where(inside[0][:, None, :, None] & inside[1][:, None, None, :], fill, images)
