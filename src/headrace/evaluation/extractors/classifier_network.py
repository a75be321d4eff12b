"""A small residual classifier: the embedded feature extractors are trained networks of this form."""

from __future__ import annotations

from itertools import pairwise

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn
from torch.nn.functional import max_pool2d, relu

PATCH = 2
"""Side of the stem's patches in pixels; it has two channels for each of a patch's numbers."""


class ClassifierConfig(BaseModel):
    """What its config.json holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    model_type: str = Field(pattern="^headrace-classifier$", description="says what the folder is")
    data: str = Field(min_length=1, description="the data set it was trained on, for people")
    classes: tuple[str, ...] = Field(min_length=2, strict=False, description="class names, in the order of the labels")
    size: int = Field(32, ge=8, le=512, description="side of the square input in pixels")
    widths: tuple[int, ...] = Field((64, 128, 256), min_length=1, strict=False, description="channels of each stage")
    mean: tuple[float, float, float] = Field((0.5, 0.5, 0.5), strict=False, description="of the channels, in [0, 1]")
    deviation: tuple[float, float, float] = Field((0.25, 0.25, 0.25), strict=False, description="of the channels")
    spatial_channels: int = Field(7, ge=1, description="channels of the first stage kept as spatial features, on 8x8")
    mirrored: bool = Field(False, description="answers are means over a picture and its mirror image")
    accuracy: float | None = Field(
        None, ge=0, le=1, description="of its answers on held-out pictures of `data`, as its recipe found it"
    )

    @model_validator(mode="after")
    def _places_remain(self) -> ClassifierConfig:
        if (self.size - PATCH + 1) >> len(self.widths) < 1:
            raise ValueError(f"{len(self.widths)} stages leave nothing of {self.size} pixels; take fewer widths")
        return self


class Stage(nn.Module):
    """A convolution at half the sides, then one beside a short cut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, inputs, h, w] -> [N, outputs, h // 2, w // 2], nowhere negative."""
        x = relu(self.norm1(max_pool2d(self.conv1(x), 2)))
        return x + relu(self.norm2(self.conv2(x)))


class Classifier(nn.Module):
    """A stem over patches, stages each at half the sides of the one before, a mean over places, a linear layer.

    After the networks of the CIFAR-10 speed records (K. Jordan, arXiv:2404.00498, section 3): the stem, whose
    weights training whitens and then leaves alone, and the pooling before the norm. Short cuts as in Page's ResNet-9.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        channels = 2 * 3 * PATCH**2
        self.stem = nn.Conv2d(3, channels, PATCH)
        widths = (channels, *config.widths)
        self.stages = nn.ModuleList(Stage(*pair) for pair in pairwise(widths))
        self.head = nn.Linear(widths[-1], len(config.classes))
        self.mean: torch.Tensor
        self.deviation: torch.Tensor
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(config.deviation).view(1, 3, 1, 1), persistent=False)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Logits [N, classes] of pictures [N, 3, size, size] in [0, 1]."""
        return self.features(pictures)[2]

    def normalised(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures in [0, 1] with the channels' mean and deviation taken away: what the stem sees."""
        return (pictures - self.mean) / self.deviation

    def features(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(pooled [N, last width], first stage [N, first width, h, w], logits) of pictures in [0, 1].

        h = w = (size - 1) // 2, that is 15 for 32 pixels.
        """
        first = x = self.stages[0](relu(self.stem(self.normalised(pictures))))
        for stage in list(self.stages)[1:]:
            x = stage(x)
        pooled = x.mean(dim=(2, 3))
        return pooled, first, self.head(pooled)

    def answers(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As `features`; means over both views where the configuration says `mirrored`. For use, not for training.

        The mirror image of a photograph shows the same thing, and two views err less than one.
        """
        seen = self.features(pictures)
        if not self.config.mirrored:
            return seen
        turned = self.features(pictures.flip(-1))
        return (seen[0] + turned[0]) / 2, (seen[1] + turned[1]) / 2, (seen[2] + turned[2]) / 2
