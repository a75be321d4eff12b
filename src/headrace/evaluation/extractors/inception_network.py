"""Inception-v3 in the form that FID is defined with (Szegedy et al. 2015; the TensorFlow graph of 2015-12-05).

It differs from the network of the paper and of torchvision: average pooling does not count the padding, the last block
pools with a maximum, and there are 1008 classes. Modules are named as in torchvision, so its weights' names fit.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, max_pool2d, relu

Pair = tuple[int, int]
CLASSES = 1008
# Channels of the spatial features, 7 x 17 x 17 = 2023 values (Nash et al. 2021).
_SPATIAL_CHANNELS = 7


class InceptionOutput(NamedTuple):
    """`pooled` [N, 2048], `spatial` [N, 2023], `logits` [N, 1008] without the bias, as the Inception Score has it."""

    pooled: torch.Tensor
    spatial: torch.Tensor
    logits: torch.Tensor


class Convolution(nn.Module):
    """Convolution, batch normalisation (epsilon 0.001) and ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int | Pair = 1, stride: int = 1, padding: int | Pair = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, inputs, h, w] -> [N, outputs, h', w']."""
        return relu(self.bn(self.conv(x)))


def _mean(x: torch.Tensor) -> torch.Tensor:
    return avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class BlockA(nn.Module):
    """35 x 35: branches of 1x1, 5x5, two 3x3, and a mean."""

    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Convolution(inputs, 64)
        self.branch5x5_1 = Convolution(inputs, 48)
        self.branch5x5_2 = Convolution(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Convolution(inputs, 64)
        self.branch3x3dbl_2 = Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, padding=1)
        self.branch_pool = Convolution(inputs, pooled)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, inputs, 35, 35] -> [N, 224 + pooled, 35, 35]."""
        wide = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), wide, double, self.branch_pool(_mean(x))], dim=1)


class BlockB(nn.Module):
    """35 x 35 -> 17 x 17."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3 = Convolution(288, 384, 3, stride=2)
        self.branch3x3dbl_1 = Convolution(288, 64)
        self.branch3x3dbl_2 = Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, 288, 35, 35] -> [N, 768, 17, 17]."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, max_pool2d(x, 3, stride=2)], dim=1)


class BlockC(nn.Module):
    """17 x 17: convolutions of 7x7, each split into 1x7 and 7x1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        row, column = {"kernel": (1, 7), "padding": (0, 3)}, {"kernel": (7, 1), "padding": (3, 0)}
        self.branch1x1 = Convolution(768, 192)
        self.branch7x7_1 = Convolution(768, width)
        self.branch7x7_2 = Convolution(width, width, **row)  # type: ignore[arg-type]
        self.branch7x7_3 = Convolution(width, 192, **column)  # type: ignore[arg-type]
        self.branch7x7dbl_1 = Convolution(768, width)
        self.branch7x7dbl_2 = Convolution(width, width, **column)  # type: ignore[arg-type]
        self.branch7x7dbl_3 = Convolution(width, width, **row)  # type: ignore[arg-type]
        self.branch7x7dbl_4 = Convolution(width, width, **column)  # type: ignore[arg-type]
        self.branch7x7dbl_5 = Convolution(width, 192, **row)  # type: ignore[arg-type]
        self.branch_pool = Convolution(768, 192)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, 768, 17, 17] -> [N, 768, 17, 17]."""
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), single, double, self.branch_pool(_mean(x))], dim=1)


class BlockD(nn.Module):
    """17 x 17 -> 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = Convolution(768, 192)
        self.branch3x3_2 = Convolution(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Convolution(768, 192)
        self.branch7x7x3_2 = Convolution(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = Convolution(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = Convolution(192, 192, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, 768, 17, 17] -> [N, 1280, 8, 8]."""
        small = self.branch3x3_2(self.branch3x3_1(x))
        large = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([small, large, max_pool2d(x, 3, stride=2)], dim=1)


class BlockE(nn.Module):
    """8 x 8: 3x3 convolutions that fork into 1x3 and 3x1. `maximum`: the pooling branch takes it, not the mean."""

    def __init__(self, inputs: int, maximum: bool) -> None:
        super().__init__()
        self.branch1x1 = Convolution(inputs, 320)
        self.branch3x3_1 = Convolution(inputs, 384)
        self.branch3x3_2a = Convolution(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = Convolution(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = Convolution(inputs, 448)
        self.branch3x3dbl_2 = Convolution(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = Convolution(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = Convolution(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = Convolution(inputs, 192)
        self._maximum = maximum

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, inputs, 8, 8] -> [N, 2048, 8, 8]."""
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = max_pool2d(x, 3, stride=1, padding=1) if self._maximum else _mean(x)
        single_forks = [self.branch3x3_2a(single), self.branch3x3_2b(single)]
        double_forks = [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        return torch.cat([self.branch1x1(x), *single_forks, *double_forks, self.branch_pool(pooled)], dim=1)


class FidInception(nn.Module):
    """The whole network, for pictures [N, 3, 299, 299] in [-1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Convolution(64, 80)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3)
        self.Mixed_5b = BlockA(192, 32)
        self.Mixed_5c = BlockA(256, 64)
        self.Mixed_5d = BlockA(288, 64)
        self.Mixed_6a = BlockB()
        self.Mixed_6b = BlockC(128)
        self.Mixed_6c = BlockC(160)
        self.Mixed_6d = BlockC(160)
        self.Mixed_6e = BlockC(192)
        self.Mixed_7a = BlockD()
        self.Mixed_7b = BlockE(1280, maximum=False)
        self.Mixed_7c = BlockE(2048, maximum=True)
        self.fc = nn.Linear(2048, CLASSES)

    def forward(self, x: torch.Tensor) -> InceptionOutput:
        """See `InceptionOutput`. The spatial features are the 1x1 branch of Mixed_6d ("mixed_6/conv" in TensorFlow)."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(max_pool2d(x, 3, stride=2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(max_pool2d(x, 3, stride=2))))
        x = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))
        spatial = self.Mixed_6d.branch1x1(x)[:, :_SPATIAL_CHANNELS].flatten(1)
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(self.Mixed_6e(self.Mixed_6d(x)))))
        pooled = x.mean(dim=(2, 3))
        return InceptionOutput(pooled, spatial, pooled @ self.fc.weight.T)
