"""FB-UNet with prompts: K images, each of its own text, in one pass of a `UNet2DConditionModel`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import nn
from typing_extensions import override

from headrace.errors import ModelError
from headrace.techniques.fusebatch.fused_network import FusedNetwork
from headrace.techniques.fusebatch.fusion import fused_channels, group_times, groups_of
from headrace.techniques.fusebatch.model import FuseBatchModel

# What a network is told of one image beside its text: size (SDXL), class, guidance (latent consistency), other images.
_OF_ONE_IMAGE = ("addition_embed_type", "class_embed_type", "num_class_embeds", "time_cond_proj_dim")
_TEXT_ALONE = (None, "text_proj")  # of encoder_hid_dim_type


class FusedUNet2DConditionModel(FusedNetwork):
    """A fused `UNet2DConditionModel`: see `FusedNetwork`. The paper has none with text.

    How K prompts reach one body: their tokens [B, K*L, D] stand one after another, and a learned embedding of the index
    j is added to those of prompt j, so that cross-attention reads all of them and knows whose each is.
    """

    def __init__(self, unet: Mapping[str, Any], factor: int, kernel_size: int = 3) -> None:
        """`unet` is the configuration of the network of one image.

        Raises `ModelError`, before it is built, for one that is told more of an image than its text (size, class,
        guidance), and for one without a norm in its head or with text of several widths.
        """
        channels = unet.get("in_channels", 4)
        check_can_be_fused(unet)
        body = UNet2DConditionModel(**{**unet, "in_channels": fused_channels(channels)})
        super().__init__(body, channels, factor, kernel_size)
        self.index_embedding = nn.Parameter(0.02 * torch.randn(factor, 1, _text_width(unet)))

    @override
    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float,
        encoder_hidden_states: torch.Tensor,
        encoder_attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """[B*K, C, h, w] and text [B*K, L, D], its mask [B*K, L] -> [B*K, C_out, h, w]; times as in `FusedUNet`.

        Raises `ValueError` where the rows are not a multiple of K.
        """
        groups = groups_of(len(sample), self.factor)
        text = (encoder_hidden_states.unflatten(0, (groups, self.factor)) + self.index_embedding).flatten(1, 2)
        mask = None if encoder_attention_mask is None else encoder_attention_mask.reshape(groups, -1)
        times = group_times(timestep, sample, self.factor)
        features = self.body(self.fusion(sample), times, text, encoder_attention_mask=mask, return_dict=False)[0]
        return self.images(features).flatten(0, 1)


class FuseBatchUNet2DConditionModel(FuseBatchModel):
    """A `UNet2DConditionModel` for K = 1, a `FusedUNet2DConditionModel` for every other K: see `FuseBatchModel`."""

    # As which a folder's model_index.json and `import` know it.
    __module__ = "headrace"
    of_one = UNet2DConditionModel
    of_several = FusedUNet2DConditionModel
    stands_for = "UNet2DConditionModel"

    @override
    @classmethod
    def check_unet(cls, unet: Mapping[str, Any]) -> None:
        check_can_be_fused(unet)

    @override
    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float,
        encoder_hidden_states: torch.Tensor,
        encoder_attention_mask: torch.Tensor | None = None,
        fusion: int | None = None,
        return_dict: bool = True,
    ) -> UNet2DConditionOutput | tuple[torch.Tensor]:
        """[N, C, h, w] and text [N, L, D], its mask [N, L] -> [N, C_out, h, w]: each K = `fusion` rows as one.

        Rows, times and K, and what is raised, are as in `FuseBatchUNet2DModel`.
        """
        network = self.network_for(fusion)
        given = sample, timestep, encoder_hidden_states
        if isinstance(network, FusedUNet2DConditionModel):
            output = network(*given, encoder_attention_mask)
        else:
            output = network(*given, encoder_attention_mask=encoder_attention_mask, return_dict=False)[0]
        return UNet2DConditionOutput(sample=output) if return_dict else (output,)


def check_can_be_fused(unet: Mapping[str, Any]) -> None:
    """Raises `ModelError` for a configuration that `FusedUNet2DConditionModel` refuses."""
    own = [f"{name} = {unet[name]!r}" for name in _OF_ONE_IMAGE if unet.get(name) is not None]
    if unet.get("encoder_hid_dim_type") not in _TEXT_ALONE:
        own.append(f"encoder_hid_dim_type = {unet['encoder_hid_dim_type']!r}")
    if not isinstance(_text_width(unet), int):
        own.append(f"cross_attention_dim = {_text_width(unet)!r}")
    if unet.get("norm_num_groups", 32) is None:
        own.append("norm_num_groups = None")
    if own:
        raise ModelError(
            f"a UNet2DConditionModel with {own[0]} cannot be fused: K images share one body, which is told their texts "
            "and one timestep, and nothing else",
            "Use a network of text alone, such as that of Stable Diffusion 1.x or 2.x",
        )


def _text_width(unet: Mapping[str, Any]) -> Any:
    """Of the text that the network is given: one number, for what can be fused."""
    return unet.get("encoder_hid_dim") or unet.get("cross_attention_dim", 1280)
