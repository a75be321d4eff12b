"""`FuseBatchUNet2DModel`: U-Nets without text for one or several fusion factors K."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import UNet2DModel
from diffusers.models.unets.unet_2d import UNet2DOutput
from typing_extensions import override

from headrace.models.pipelines.parts import registered_network
from headrace.techniques.fusebatch.fused_registered import FusedRegistered
from headrace.techniques.fusebatch.fused_unet import FusedUNet
from headrace.techniques.fusebatch.model import FuseBatchModel


class FuseBatchUNet2DModel(FuseBatchModel):
    """A `UNet2DModel` for K = 1, a `FusedUNet` for every other K: see `FuseBatchModel`.

    Where `unet` is the configuration of a registered network that stands for a `UNet2DModel`, and says so with
    `network` = class name, it is that for K = 1 and a `FusedRegistered` for every other K. What such a network is told
    of a plan, its stage for instance, this one is told beside `fusion`.
    """

    # As which a folder's model_index.json and `import` know it.
    __module__ = "headrace"
    of_one = UNet2DModel
    of_several = FusedUNet
    stands_for = "UNet2DModel"

    @classmethod
    @override
    def made(cls, unet: Mapping[str, Any], factor: int, kernel_size: int) -> Any:
        if "network" not in unet:
            return super().made(unet, factor, kernel_size)
        kind, settings = registered_network(unet)
        return kind(**settings) if factor == 1 else FusedRegistered(unet, factor, kernel_size)

    @override
    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float,
        class_labels: torch.Tensor | None = None,
        fusion: int | None = None,
        return_dict: bool = True,
        **columns: Any,
    ) -> UNet2DOutput | tuple[torch.Tensor]:
        """[N, C, h, w] -> [N, C_out, h, w]: groups of K = `fusion` rows that stand together share an evaluation each.

        `timestep` is a number or one a row, of which a group's first is taken; `class_labels` is [N]. `fusion` None is
        the smallest factor; `columns` are what the bodies are told of each row beside. Raises `ValueError` where there
        is no network for K, or N is not a multiple of K.
        """
        network = self.network_for(fusion)
        if isinstance(network, FusedUNet | FusedRegistered):
            output = network(sample, timestep, class_labels, **columns)
        else:
            output = network(sample, timestep, class_labels, return_dict=False, **columns)[0]
        return UNet2DOutput(sample=output) if return_dict else (output,)
