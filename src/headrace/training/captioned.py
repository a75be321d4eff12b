"""Pictures with words below them."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw

_LINE = 11


def captioned(image: torch.Tensor, caption: str, scale: int) -> torch.Tensor:
    """uint8 [3, H, W] enlarged by a whole number, above its caption in black on white: uint8 [3, H', W * scale]."""
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    size = (picture.width * scale, picture.height * scale)
    canvas = Image.new("RGB", (size[0], size[1] + _LINE * len(caption.splitlines()) + 2), "white")
    canvas.paste(picture.resize(size, Image.Resampling.NEAREST))
    ImageDraw.Draw(canvas).multiline_text((2, size[1]), caption, fill="black", font_size=_LINE - 1, spacing=1)
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1)
