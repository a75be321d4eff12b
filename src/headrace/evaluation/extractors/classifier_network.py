"""A small residual classifier: the embedded feature extractors are trained networks of this form."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.nn.functional import relu


class ClassifierConfig(BaseModel):
    """What its config.json holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    model_type: str = Field(pattern="^headrace-classifier$", description="says what the folder is")
    data: str = Field(min_length=1, description="the data set it was trained on, for people")
    classes: tuple[str, ...] = Field(min_length=2, strict=False, description="class names, in the order of the labels")
    size: int = Field(32, ge=8, le=512, description="side of the square input in pixels")
    widths: tuple[int, ...] = Field((48, 96, 192), min_length=2, strict=False, description="channels of each stage")
    blocks: int = Field(2, ge=1, le=16, description="residual blocks a stage")
    mean: tuple[float, float, float] = Field((0.5, 0.5, 0.5), strict=False, description="of the channels, in [0, 1]")
    deviation: tuple[float, float, float] = Field((0.25, 0.25, 0.25), strict=False, description="of the channels")
    spatial_channels: int = Field(7, ge=1, description="channels of the first stage kept as spatial features, on 8x8")
    accuracy: float | None = Field(
        None, ge=0, le=1, description="on held-out pictures of `data`, as its recipe found it"
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a short cut, activation first (He et al. 2016b). `stride` 2 halves the sides."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        changes = stride != 1 or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if changes else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, inputs, h, w] -> [N, outputs, h / stride, w / stride]."""
        activated = relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        result: torch.Tensor = shortcut + self.conv2(relu(self.norm2(self.conv1(activated))))
        return result


class Classifier(nn.Module):
    """Stages of residual blocks, each at half the sides of the one before, a mean over places, and a linear layer."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Conv2d(3, config.widths[0], 3, 1, 1, bias=False)
        stages, inputs = [], config.widths[0]
        for number, width in enumerate(config.widths):
            strides = [1 if number == 0 else 2] + [1] * (config.blocks - 1)
            blocks = []
            for stride in strides:
                blocks.append(ResidualBlock(inputs, width, stride))
                inputs = width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.norm = nn.BatchNorm2d(inputs)
        self.head = nn.Linear(inputs, len(config.classes))
        self.mean: torch.Tensor
        self.deviation: torch.Tensor
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(config.deviation).view(1, 3, 1, 1), persistent=False)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Logits [N, classes] of pictures [N, 3, size, size] in [0, 1]."""
        return self.features(pictures)[2]

    def features(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(pooled [N, last width], first stage [N, first width, size, size], logits) of pictures in [0, 1]."""
        x = self.stem((pictures - self.mean) / self.deviation)
        first = x = self.stages[0](x)
        for stage in list(self.stages)[1:]:
            x = stage(x)
        pooled = relu(self.norm(x)).mean(dim=(2, 3))
        return pooled, first, self.head(pooled)
