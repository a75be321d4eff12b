"""What the fused networks share: a body that runs once for K images, and what stands around it (FB-UNet)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from headrace.techniques.fusebatch.fusion import Fusion, Head, Unfusion
from headrace.techniques.fusebatch.transfer import copy_body, copy_head


class FusedNetwork(nn.Module):
    """`R^{BxKxd} -> Fusion -> R^{Bxh} -> body -> R^{Bxh} -> Unfusion -> R^{BxKxh} -> Head -> R^{BxKxd}` (equation 3).

    The body is a diffusers U-Net up to its head, with a `conv_in` of 8C channels for images of C, and runs once a group
    (equation 5); its head (norm, activation, `conv_out`) runs once an image, with the same weights for all.
    """

    def __init__(self, body: Any, channels: int, factor: int, kernel_size: int) -> None:
        """`body` takes `fused_channels(channels)`; it gives up its head."""
        super().__init__()
        self.factor = factor
        self.body = body
        self.fusion = Fusion(channels, factor, kernel_size)
        self.head = Head.taken_from(body)
        self.unfusion = Unfusion(body.config.block_out_channels[0], factor)

    @property
    def config_of_one(self) -> dict[str, Any]:
        """The configuration of the network of one image, whole."""
        return {**self.body.config, "in_channels": self.fusion.channels}

    def images(self, features: torch.Tensor) -> torch.Tensor:
        """[B, C0, h, w] of the body -> [B, K, C_out, h, w]: unfusion and the head of every image."""
        return torch.stack([self.head(image) for image in self.unfusion.each(features)], 1)

    def initialise_from(self, vanilla: Any) -> None:
        """Takes over the weights of a trained network of one image: all but `conv_in`, which reads what fusion makes.

        Unfusion starts as the identity, so that the head, which is taken over too, is given what it was trained on.
        Raises `ModelError` where the configurations differ.
        """
        copy_body(vanilla, self.body)
        copy_head(vanilla, self.head)
        self.unfusion.start_as_identity()
