"""`FuseBatchUNet2DModel`: U-Nets without text for one or several fusion factors K."""

from __future__ import annotations

import torch
from diffusers import UNet2DModel
from diffusers.models.unets.unet_2d import UNet2DOutput
from typing_extensions import override

from headrace.techniques.fusebatch.fused_unet import FusedUNet
from headrace.techniques.fusebatch.model import FuseBatchModel


class FuseBatchUNet2DModel(FuseBatchModel):
    """A `UNet2DModel` for K = 1, a `FusedUNet` for every other K: see `FuseBatchModel`."""

    # As which a folder's model_index.json and `import` know it.
    __module__ = "headrace"
    of_one = UNet2DModel
    of_several = FusedUNet
    stands_for = "UNet2DModel"

    @override
    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float,
        class_labels: torch.Tensor | None = None,
        fusion: int | None = None,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[torch.Tensor]:
        """[N, C, h, w] -> [N, C_out, h, w]: groups of K = `fusion` rows that stand together share an evaluation each.

        `timestep` is a number or one a row, of which a group's first is taken; `class_labels` is [N]. `fusion` None is
        the smallest factor. Raises `ValueError` where there is no network for K, or N is not a multiple of K.
        """
        network = self.network_for(fusion)
        if isinstance(network, FusedUNet):
            output = network(sample, timestep, class_labels)
        else:
            output = network(sample, timestep, class_labels, return_dict=False)[0]
        return UNet2DOutput(sample=output) if return_dict else (output,)
