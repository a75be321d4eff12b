"""Parameters and multiply-accumulate operations of a multistage U-Net: of the encoder and of each decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DModel
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from typing_extensions import override

from headrace.techniques.multistage.decoder import Decoder, widths_of, without_attention
from headrace.techniques.multistage.encoder import Encoder, Features
from headrace.techniques.multistage.network import whole_configuration


@dataclass(frozen=True)
class Cost:
    """Of one row: `macs` without attention, as the papers' counters have it; `attention` is what they leave out."""

    parameters: int
    macs: int
    attention: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.parameters + other.parameters, self.macs + other.macs, self.attention + other.attention)

    @property
    def gmac(self) -> float:
        """Without attention."""
        return self.macs / 1e9

    @property
    def all_gmac(self) -> float:
        """With attention's projections and products."""
        return (self.macs + self.attention) / 1e9

    @property
    def millions(self) -> float:
        """Of parameters."""
        return self.parameters / 1e6


@dataclass(frozen=True)
class Halves:
    """What the shared encoder and each decoder cost, the one nearest the image first."""

    encoder: Cost
    decoders: tuple[Cost, ...]

    @property
    def stages(self) -> tuple[Cost, ...]:
        """Of one row in each stage: encoder and decoder."""
        return tuple(self.encoder + decoder for decoder in self.decoders)

    @property
    def parameters(self) -> int:
        """Of the whole network."""
        return self.encoder.parameters + sum(decoder.parameters for decoder in self.decoders)

    def average_gmac(self, rows: Sequence[float]) -> float:
        """Of a row, without attention, where each stage has so many of the rows."""
        weighted = zip(rows, self.stages, strict=True)
        return sum(count * stage.gmac for count, stage in weighted) / sum(rows)


def halves(
    unet: dict[str, Any], decoders: Sequence[int | Sequence[int]], attention: Sequence[bool] | None = None
) -> Halves:
    """Counted on one row of the configuration's sample size, without memory for weights or activations.

    Raises `ModelError` as the network does.
    """
    settings = whole_configuration(unet)
    channels, size = settings["in_channels"], settings["sample_size"]
    with torch.device("meta"), torch.inference_mode():
        encoder = _Counted(Encoder(UNet2DModel(**settings)).eval())
        features = encoder(torch.zeros(1, channels, size, size), torch.zeros(1))
        costs = []
        for widths, attends in zip(decoders, attention or [True] * len(decoders), strict=True):
            kind = settings if attends else without_attention(settings)
            decoder = _Counted(Decoder(kind, widths_of(settings, widths)).eval())
            decoder(features)
            costs.append(decoder.cost)
    return Halves(encoder.cost, tuple(costs))


class _Counted(nn.Module):
    """A module that counts what its last call took."""

    cost: Cost

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    @override
    def forward(self, *inputs: torch.Tensor | Features) -> Any:
        counter = FlopCounterMode(display=False)
        with sdpa_kernel(SDPBackend.MATH), counter:
            output = self.inner(*inputs)
        counts = counter.get_flop_counts()
        blocks = [name for name in counts if name.split(".")[-2:-1] == ["attentions"]]
        attention = sum(sum(counts[name].values()) for name in blocks) // 2
        parameters = sum(parameter.numel() for parameter in self.inner.parameters())
        self.cost = Cost(parameters, int(counter.get_total_flops()) // 2 - attention, attention)
        return output
