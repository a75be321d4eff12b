"""Data at low size, for the noisy part of denoising (PostDiff, supplement, appendix F)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import interpolate

from headrace.errors import RecipeError
from headrace.training.objectives.objective import Batch
from headrace.training.spaces.latent import LatentSpace
from headrace.training.spaces.space import Space
from headrace.training.tables.low_resolution import LowResolutionTable

_PREFIX = "low_"


class LowResolution(nn.Module):
    """The data of a space at low size. `share`: of denoising that is learnt there; `side`: of the small square.

    Nothing random is drawn for it: a small item takes a corner of the noise that is drawn at full size, which is
    standard normal as well, so a recipe with low rows and one without them see the same noise at the same levels.
    `space` holds the pictures; `multiple` is what the sides of the network's inputs must divide by.

    Raises `RecipeError` where no such side is smaller than the full one.
    """

    def __init__(self, table: LowResolutionTable, space: Space, multiple: int) -> None:
        super().__init__()
        full = space.shape.size
        self.share, self.side = table.share, low_side(full, table.scale, multiple)
        self.encoded: LatentSpace | None = None
        if table.resized == "pictures" and isinstance(space, LatentSpace):
            pixels = space.images.shape[-1] // full * self.side
            self.encoded = LatentSpace(space.autoencoder, shrunk_pictures(space.images, pixels), space.flip)

    def batch(self, where: torch.Tensor, device: torch.device) -> Batch:
        """What `clean` needs of the items `where` beyond what the space gives; every key begins with `low_`."""
        if self.encoded is None:
            return {}
        return {_PREFIX + name: values for name, values in self.encoded.batch(where, device).items()}

    def clean(self, batch: Batch, full: torch.Tensor) -> torch.Tensor:
        """Data [B, C, side, side] of a batch whose data at full size is `full` [B, C, h, w]."""
        if self.encoded is None:
            return interpolate(full, size=(self.side, self.side), mode="area")
        own = {name.removeprefix(_PREFIX): values for name, values in batch.items() if name.startswith(_PREFIX)}
        return self.encoded.clean(batch | own | {"posterior": self.corner(batch["posterior"])})

    def corner(self, noise: torch.Tensor) -> torch.Tensor:
        """The part [B, C, side, side] of noise [B, C, h, w] that a small item takes."""
        return noise[:, :, : self.side, : self.side]


def make_low_resolution(table: LowResolutionTable | None, space: Space, network: Any) -> LowResolution | None:
    """As the recipe says, for a diffusers U-Net; None where the table is absent or changes nothing."""
    if table is None or table.share == 0 or table.scale == 1:
        return None
    return LowResolution(table, space, 2 ** (len(network.config.down_block_types) - 1))


def low_side(full: int, scale: float, multiple: int) -> int:
    """The multiple of `multiple` nearest to `scale` times `full`, at least one. Raises `RecipeError` where it is full.

    A half is rounded up: sampling loses less by a size that is a little too large.
    """
    side = max(1, int(scale * full / multiple + 0.5)) * multiple
    if side >= full:
        raise RecipeError(
            f"low_resolution.scale = {scale} of {full} gives {side}, which is not smaller: the network takes multiples "
            f"of {multiple}",
            "Lower the scale, or raise data.size",
        )
    return side


def shrunk_pictures(images: torch.Tensor, side: int) -> torch.Tensor:
    """uint8 [N, 3, H, W] as uint8 [N, 3, side, side], each pixel the mean of those it stands for."""
    parts = [interpolate(part.float(), size=(side, side), mode="area").round() for part in images.split(256)]
    return torch.cat(parts).to(torch.uint8)
