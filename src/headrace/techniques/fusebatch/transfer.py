"""Weights of a trained network of one image as the start of one that is fused."""

from __future__ import annotations

import torch
from torch import nn

from headrace.errors import ModelError
from headrace.techniques.fusebatch.fusion import Head

Tensors = dict[str, torch.Tensor]
_HEAD = {"norm": "conv_norm_out", "activation": "conv_act", "projection": "conv_out"}
# A fused body reads an image and labels of its own; the rest is as it was.
_OWN = ("conv_in.", "class_embedding.")


def copy_body(vanilla: nn.Module, body: nn.Module) -> None:
    """All weights that a fused body shares with a network of one image.

    Raises `ModelError`, before any is copied, where one is missing or of another shape.
    """
    target = {name: tensor for name, tensor in body.state_dict().items() if not name.startswith(_OWN)}
    copy_named(vanilla.state_dict(), target, {name: name for name in target})


def copy_all(vanilla: nn.Module, network: nn.Module) -> None:
    """Every weight of a network of the same configuration. Raises as `copy_body` does."""
    target = network.state_dict()
    copy_named(vanilla.state_dict(), target, {name: name for name in target})


def copy_head(vanilla: nn.Module, head: Head) -> None:
    """The norm and the last convolution of a diffusers U-Net or decoder. Raises as `copy_body` does."""
    target = head.state_dict()
    copy_named(
        vanilla.state_dict(),
        target,
        {own: _HEAD.get(own.partition(".")[0], "") + own[own.index(".") :] for own in target},
    )


@torch.no_grad()
def copy_named(given: Tensors, target: Tensors, names: dict[str, str]) -> None:
    """Into each tensor of the target that is a key of `names` the given one of its value's name.

    Raises `ModelError`, before any is copied, where one is missing or of another shape.
    """
    for own, theirs in names.items():
        if theirs not in given or given[theirs].shape != target[own].shape:
            found = "lacks it" if theirs not in given else f"has {tuple(given[theirs].shape)}"
            raise ModelError(
                f"the network to start from differs: {theirs} is {tuple(target[own].shape)} here, and it {found}",
                "Start from a network of the same configuration",
            )
    for own, theirs in names.items():
        target[own].copy_(given[theirs])
