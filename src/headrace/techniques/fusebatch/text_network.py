"""FB-UNet with prompts: K images, each of its own text, in one pass of a `UNet2DConditionModel`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import nn
from typing_extensions import override

from headrace.errors import ModelError
from headrace.techniques.fusebatch.fusion import Fusion, Head, Unfusion, fused_channels, group_times, groups_of
from headrace.techniques.fusebatch.network import check_factors
from headrace.techniques.fusebatch.transfer import copy_body, copy_head

_OF_ONE_IMAGE = ("addition_embed_type", "class_embed_type", "num_class_embeds", "time_cond_proj_dim")


class FusedUNet2DConditionModel(ModelMixin, ConfigMixin):
    """`FusedUNet` (equations 3 to 6) around diffusers' `UNet2DConditionModel`. The paper has none with text.

    How K prompts reach one body: their tokens [B, K*L, D] stand one after another, and a learned embedding of the index
    j is added to those of prompt j, so that cross-attention reads all of them and knows whose each is. `unet` is the
    configuration of one image's network. Raises `ModelError` for a factor below 2 and for a network with embeddings of
    one image beside its text (size, class, guidance).
    """

    __module__ = "headrace"
    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(self, factor: int, unet: Mapping[str, Any], kernel_size: int = 3) -> None:
        super().__init__()
        check_factors([factor])
        settings = {name: value for name, value in unet.items() if not name.startswith("_")}
        own = [name for name in _OF_ONE_IMAGE if settings.get(name) is not None]
        if factor == 1 or own or settings.get("norm_num_groups", 32) is None:
            what = f"K = {factor}" if factor == 1 else f"{own[0]} = {settings[own[0]]!r}" if own else "no norm"
            raise ModelError(
                f"a UNet2DConditionModel with {what} cannot be fused", "Use K = 2 or more and a network of text alone"
            )
        channels = settings.get("in_channels", 4)
        self.body = UNet2DConditionModel(**{**settings, "in_channels": fused_channels(channels)})
        self.fusion = Fusion(channels, factor, kernel_size)
        self.head = Head.taken_from(self.body)
        self.unfusion = Unfusion(self.body.config.block_out_channels[0], factor)
        width = self.body.config.encoder_hid_dim or self.body.config.cross_attention_dim
        self.index_embedding = nn.Parameter(0.02 * torch.randn(factor, 1, width))

    @override
    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float,
        encoder_hidden_states: torch.Tensor,
        encoder_attention_mask: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet2DConditionOutput | tuple[torch.Tensor]:
        """[B*K, C, h, w] and text [B*K, L, D], its mask [B*K, L] -> [B*K, C_out, h, w]; times as in `FusedUNet`.

        Raises `ValueError` where the rows are not a multiple of K.
        """
        factor = len(self.index_embedding)
        groups = groups_of(len(sample), factor)
        text = (encoder_hidden_states.unflatten(0, (groups, factor)) + self.index_embedding).flatten(1, 2)
        mask = None if encoder_attention_mask is None else encoder_attention_mask.reshape(groups, -1)
        features = self.body(
            self.fusion(sample),
            group_times(timestep, sample, factor),
            text,
            encoder_attention_mask=mask,
            return_dict=False,
        )[0]
        output = torch.stack([self.head(image) for image in self.unfusion.each(features)], 1).flatten(0, 1)
        return UNet2DConditionOutput(sample=output) if return_dict else (output,)

    def initialise_from(self, vanilla: UNet2DConditionModel) -> None:
        """Takes over a trained network of one image, all but `conv_in`. Raises as `FusedUNet.initialise_from` does."""
        copy_body(vanilla, self.body)
        copy_head(vanilla, self.head)
        self.unfusion.start_as_identity()
