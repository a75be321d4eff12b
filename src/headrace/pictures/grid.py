"""Grids of pictures."""

from __future__ import annotations

import torch
from PIL import Image


def image_grid(images: torch.Tensor, columns: int, gap: int = 2) -> Image.Image:
    """uint8 [N, 3, H, W] as one picture, row by row, on light grey."""
    height, width = images.shape[-2:]
    rows = -(-len(images) // columns)
    grid = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), (225, 225, 225))
    for number, image in enumerate(images.permute(0, 2, 3, 1).contiguous().numpy()):
        row, column = divmod(number, columns)
        grid.paste(Image.fromarray(image), (gap + column * (width + gap), gap + row * (height + gap)))
    return grid
