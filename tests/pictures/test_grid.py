"""Grids of pictures."""

import numpy as np
import torch

from headrace.pictures.grid import image_grid


def test_pictures_lie_row_by_row_with_gaps_between():
    images = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 3, 4, 6)
    grid = np.asarray(image_grid(images, columns=3, gap=2))
    assert grid.shape == (2 * (4 + 2) + 2, 3 * (6 + 2) + 2, 3)
    for number in range(5):
        top, left = 2 + number // 3 * 6, 2 + number % 3 * 8
        assert (grid[top : top + 4, left : left + 6] == number).all()
    assert (grid[:2] == 225).all()
    assert (grid[8:, 18:] == 225).all()
