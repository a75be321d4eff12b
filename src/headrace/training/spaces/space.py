"""The protocol of a data space, and the space of pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import nn
from typing_extensions import override

from headrace.training.data import to_signed
from headrace.training.objectives.objective import Batch


@dataclass(frozen=True)
class Shape:
    """Of one item: channels, and the side of the square."""

    channels: int
    size: int


class Space(nn.Module, ABC):
    """The data that a process noises. `images`: uint8 [N, 3, H, W]; `flip`: half of them are mirrored, drawn each time.

    A module because it may hold a frozen network, which then moves with the objective that the space belongs to.
    """

    def __init__(self, images: torch.Tensor, flip: bool) -> None:
        super().__init__()
        self.images, self.flip = images, flip

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """Of what `clean` gives."""

    @property
    def group(self) -> int:
        """Pictures that one item of `clean` is made of; batches hold as many together."""
        return 1

    @abstractmethod
    def over(self, images: torch.Tensor) -> Space:
        """The same space over other pictures, never mirrored."""

    @abstractmethod
    def batch(self, where: torch.Tensor, device: torch.device) -> Batch:
        """What `clean` needs of the items `where` (int64 [B]), on the device, with nothing random in it."""

    @abstractmethod
    def clean(self, batch: Batch) -> torch.Tensor:
        """Data, float32 [B / group, C, h, w], of what `batch` and `draws` gave together."""

    def draws(self, count: int, generator: torch.Generator) -> Batch:
        """`mirrored` bool [B], and what else `clean` needs that is random."""
        coin = torch.rand(count, generator=generator, device=generator.device)
        return {"mirrored": coin < 0.5 if self.flip else torch.zeros_like(coin, dtype=torch.bool)}


class PixelSpace(Space):
    """Pictures as they are, in [-1, 1]."""

    @property
    @override
    def shape(self) -> Shape:
        return Shape(self.images.shape[1], self.images.shape[-1])

    @override
    def over(self, images: torch.Tensor) -> PixelSpace:
        return PixelSpace(images, flip=False)

    @override
    def batch(self, where: torch.Tensor, device: torch.device) -> Batch:
        return {"images": to_signed(self.images[where].to(device))}

    @override
    def clean(self, batch: Batch) -> torch.Tensor:
        images = batch["images"]
        return torch.where(batch["mirrored"][:, None, None, None], images.flip(-1), images)
