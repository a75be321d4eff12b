"""FuseBatch around other registered networks: a body with decoders for stages, for instance, that runs once for K."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from typing_extensions import override

from headrace.errors import ModelError
from headrace.models.pipelines.parts import registered_network
from headrace.techniques.fusebatch.fused_unet import IndexedEmbedding
from headrace.techniques.fusebatch.fusion import Fusion, Head, Unfusion, fused_channels, group_times
from headrace.techniques.fusebatch.transfer import copy_named

# What a body has of its own: it reads fused images, and labels by index.
_OWN = ("conv_in.", "class_embedding.")
# A head's tensors here, and where a network of one image has them.
_HEADS = {"conv_out.head.norm.": "conv_norm_out.", "conv_out.head.projection.": "conv_out."}
_UNFUSION = "conv_out.unfusion."


class FusedRegistered(nn.Module):
    """`FusedUNet` (equation 3) for a registered network that stands for a `UNet2DModel`, whatever it is inside.

    Such a network may end in several heads, each of its own width. Each is given an unfusion of that width, and answers
    all K images of a row, so that the body takes [B, 8C, h, w] and gives [B*K, C_out, h, w]. Its class embeddings are
    one table for each index.
    """

    def __init__(self, network: Mapping[str, Any], factor: int, kernel_size: int = 3) -> None:
        """`network` is the configuration of the network of one image, as `registered_network` reads it.

        Raises `ModelError` as that does, and for a network that fuses already.
        """
        super().__init__()
        self.factor = factor
        self.kind, self.settings = registered_network(network)
        unet = self.settings["unet"]
        channels = unet.get("in_channels", 3)
        if hasattr(self.kind, "factors"):
            raise ModelError(f"a {self.kind.__name__} fuses images itself", "Name a network of one image")
        self.body = self.kind(**{**self.settings, "unet": {**unet, "in_channels": fused_channels(channels)}})
        self.fusion = Fusion(channels, factor, kernel_size)
        for part in _with(self.body, "conv_norm_out"):
            width = part.conv_out.in_channels
            part.conv_out = HeadOfImages(Head.taken_from(part), Unfusion(width, factor))
        for part in _with(self.body, "class_embedding"):
            part.class_embedding = IndexedEmbedding(part.class_embedding, factor)

    @property
    def config_of_one(self) -> dict[str, Any]:
        """The configuration of the network of one image, whole."""
        return {**self.body.config, "in_channels": self.fusion.channels}

    @override
    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float,
        class_labels: torch.Tensor | None = None,
        **columns: Any,
    ) -> torch.Tensor:
        """[B*K, C, h, w] -> [B*K, C_out, h, w]: as `FusedUNet`; `columns` are what the body is told of each row.

        Of these too a group's first is taken. Raises `ValueError` where the rows are not a multiple of K.
        """
        fused = self.fusion(sample)
        times = group_times(timestep, sample, self.factor)
        labels = None if class_labels is None else class_labels.reshape(-1, self.factor)
        told = {name: values[:: self.factor] if _is_of_rows(values) else values for name, values in columns.items()}
        output: torch.Tensor = self.body(fused, times, labels, return_dict=False, **told)[0]
        return output

    def initialise_from(self, trained: Any) -> None:
        """Takes over a trained network of one image, of the body's kind or one that such a network can start from.

        All but `conv_in`; each index gets a copy of the class embeddings, and unfusion starts as the identity. Raises
        `ModelError` where the configurations differ.
        """
        one = trained
        if not isinstance(one, self.kind):
            one = self.kind(**self.settings)
            one.initialise_from(trained)
        target = self.body.state_dict()
        names = {name: _name_of_one(name) for name in target if _UNFUSION not in name and not _is_own(name)}
        copy_named(one.state_dict(), target, names)
        for name, part in self.body.named_modules():
            if isinstance(part, IndexedEmbedding):
                part.copy_from(one.get_submodule(name))
            elif isinstance(part, Unfusion):
                part.start_as_identity()


class HeadOfImages(nn.Module):
    """Unfusion and the head of every image: [B, C, h, w] -> [B*K, C_out, h, w], the K of a group together."""

    def __init__(self, head: Head, unfusion: Unfusion) -> None:
        super().__init__()
        self.head = head
        self.unfusion = unfusion

    @override
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.head(image) for image in self.unfusion.each(features)], 1).flatten(0, 1)


def _with(body: nn.Module, name: str) -> list[Any]:
    """The parts of a network that have a module of this name, as a `UNet2DModel` has it itself."""
    return [part for part in body.modules() if isinstance(getattr(part, name, None), nn.Module)]


def _is_own(name: str) -> bool:
    return any(f".{own}" in f".{name}" for own in _OWN)


def _name_of_one(name: str) -> str:
    for here, there in _HEADS.items():
        name = name.replace(here, there)
    return name


def _is_of_rows(values: Any) -> bool:
    return bool(getattr(values, "ndim", 0))
