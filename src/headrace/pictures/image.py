"""Pixels as Pillow's images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image


def to_image(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    """Of uint8 pixels [H, W, 1 or 3 channels]: grey or RGB."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
