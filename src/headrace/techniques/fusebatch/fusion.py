"""What stands around a shared network body: K images in, one representation; one representation in, K images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from typing_extensions import override

from headrace.errors import ModelError

# Channels of C_psi for an image of C channels: Conv(C -> 4C), SiLU, Conv(4C -> 8C).
_HIDDEN, _FUSED = 4, 8


class Fusion(nn.Module):
    """K images -> one representation h: `x~ = sum_j C_psi(x_j, j)` (FuseBatch, equations 2 and 4).

    `C_psi(., j)` is Conv(C -> 4C), SiLU, Conv(4C -> 8C) with weights of its own for each index j, so that the sum knows
    which image was which. Input [B*K, C, h, w], the K images of a group together; output [B, 8C, h, w].

    All indices run in two convolutions: the first is grouped, and the sum over j of the second ones is one convolution
    of all K hidden maps (whose bias is the sum of K biases). Raises `ModelError` for an even kernel, and `ValueError`
    for images that are not a multiple of K.
    """

    def __init__(self, channels: int, factor: int, kernel_size: int = 3) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ModelError(
                f"a fusion kernel of {kernel_size} has no middle, so images would shift", "Use 3, 5 or 7 (3 is best)"
            )
        self.channels = channels
        self.factor = factor
        hidden = _HIDDEN * channels
        self.expand = nn.Conv2d(
            factor * channels, factor * hidden, kernel_size, padding=kernel_size // 2, groups=factor
        )
        # Kept as K convolutions, with a bias each: that is how they are counted, and how each is initialised.
        self.compose = nn.Conv2d(
            factor * hidden, factor * fused_channels(channels), kernel_size, padding=kernel_size // 2, groups=factor
        )

    @override
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        count = groups_of(len(images), self.factor)
        groups = images.reshape(count, self.factor * self.channels, *images.shape[2:])
        hidden = functional.silu(self.expand(groups))
        compose = self.compose
        weight = compose.weight.unflatten(0, (self.factor, -1)).transpose(0, 1).flatten(1, 2)
        bias = None if compose.bias is None else compose.bias.unflatten(0, (self.factor, -1)).sum(0)
        return functional.conv2d(hidden, weight, bias, padding=compose.padding)


class Unfusion(nn.Module):
    """One representation -> K images' features: `u_j = U(v~, j)`, a Conv1x1(C -> C) for each j (equation 6).

    One convolution C -> K*C holds all K. Called, it gives all images: [B, C, h, w] -> [B*K, C, h, w], the K of a group
    together. `each` gives them index by index, for a head that is called for each: nothing is copied then to bring the
    K of a group together in memory, which in channels-last format took twice as long as all the rest of the head.
    """

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.channels = channels
        self.factor = factor
        self.separate = nn.Conv2d(channels, factor * channels, kernel_size=1)

    @override
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.separate(features).reshape(-1, self.channels, *features.shape[2:])

    def each(self, features: torch.Tensor) -> Iterator[torch.Tensor]:
        """For each index the features [B, C, h, w] of its image, in the memory format of those given."""
        channels_last = features.is_contiguous(memory_format=torch.channels_last)
        for weight, bias in zip(self.separate.weight.chunk(self.factor), self._biases(), strict=True):
            if channels_last:  # a matrix product, whose bias takes no pass of its own
                pixels = functional.linear(features.permute(0, 2, 3, 1), weight.flatten(1), bias)
                yield pixels.permute(0, 3, 1, 2)
            else:
                yield functional.conv2d(features, weight, bias)

    def _biases(self) -> Sequence[torch.Tensor | None]:
        bias = self.separate.bias
        return [None] * self.factor if bias is None else bias.chunk(self.factor)

    @torch.no_grad()
    def start_as_identity(self) -> None:
        """Every index gets the features as they are, as a network of one image's head does."""
        nn.init.dirac_(self.separate.weight, self.factor)
        if self.separate.bias is not None:
            nn.init.zeros_(self.separate.bias)


class Head(nn.Module):
    """The projection eps^proj that all images share (equation 6): norm, activation, last convolution of a network."""

    def __init__(self, norm: nn.Module, activation: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.activation = activation
        self.projection = projection

    @classmethod
    def taken_from(cls, network: Any) -> Head:
        """The head of a diffusers U-Net or decoder, which from now on returns what its head was given."""
        head = cls(network.conv_norm_out, network.conv_act, network.conv_out)
        network.conv_norm_out, network.conv_act, network.conv_out = nn.Identity(), nn.Identity(), nn.Identity()
        return head

    @override
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.projection(self.activation(self.norm(features)))


def fused_channels(channels: int) -> int:
    """Channels of the representation h of images with this many: 24 for RGB."""
    return _FUSED * channels


def groups_of(rows: int, factor: int) -> int:
    """How many groups of K these rows are. Raises `ValueError` where the last one would be short."""
    if rows % factor:
        raise ValueError(f"{rows} images are not a multiple of the fusion factor {factor}: fill the last group")
    return rows // factor


def group_times(timestep: torch.Tensor | float, sample: torch.Tensor, factor: int) -> torch.Tensor:
    """[B]: the timestep of each group's first row, of a number or of one a row."""
    return torch.as_tensor(timestep, device=sample.device).expand(len(sample))[::factor]
