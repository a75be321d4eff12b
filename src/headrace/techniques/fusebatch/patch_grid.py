"""The patch grid: four images at half size as the quarters of one, FuseBatch's naive baseline (its appendix A.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DModel
from diffusers.configuration_utils import FrozenDict, register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import nn
from torch.nn import functional
from typing_extensions import override

from headrace.plan.plan import Plan
from headrace.techniques.fusebatch import schedule
from headrace.techniques.fusebatch.fused_unet import IndexedEmbedding
from headrace.techniques.fusebatch.fusion import group_times, groups_of

FACTOR = 4
_SIDE = 2


class PatchGridUNet2DModel(ModelMixin, ConfigMixin):
    """A plain `UNet2DModel` that is shown four images as one: each a quarter of its pixels, in a 2 x 2 grid.

    Called as `FuseBatchUNet2DModel` is, with the one factor 4. `unet` is the configuration of the U-Net of one image;
    its parameters are those of one image but for the class embeddings, one table a place in the grid, summed.

    The paper says no more than that the noisy inputs are made smaller, put together, processed once, split and
    enlarged. Read to the letter no step could then remove the noise that the smaller input lacks, and sampling would
    not end in a picture. So what is lost by making an image smaller is added to its output, times a factor that a
    linear layer learns of the time embedding: where the noise is strong, what is lost is nearly all noise.
    """

    # As which a folder's model_index.json and `import` know it.
    __module__ = "headrace"
    # What it is called as, and what of a plan it is told beside that.
    stands_for = "UNet2DModel"
    columns = frozenset({"fusion"})

    @register_to_config
    def __init__(self, unet: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = UNet2DModel(**{name: value for name, value in unet.items() if not name.startswith("_")})
        self.gain = nn.Linear(self.network.time_embedding.linear_2.out_features, 1)
        nn.init.zeros_(self.gain.weight)
        nn.init.ones_(self.gain.bias)
        if self.network.class_embedding is not None:
            self.network.class_embedding = IndexedEmbedding(self.network.class_embedding, FACTOR)

    @property
    def factors(self) -> tuple[int, ...]:
        """The one fusion factor there is."""
        return (FACTOR,)

    @property
    @override
    def config(self) -> FrozenDict:
        """The configuration of the U-Net of one image, and this model's own over it."""
        return FrozenDict({**self.network.config, **self._internal_dict})

    @override
    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float,
        class_labels: torch.Tensor | None = None,
        fusion: int | None = None,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[torch.Tensor]:
        """[N, C, h, w] -> [N, C_out, h, w], h and w even: each four rows that stand together share an evaluation.

        `timestep` is a number or one a row, of which a group's first is taken; `class_labels` is [N]. Raises
        `ValueError` where N is not a multiple of 4, or `fusion` another factor.
        """
        groups = groups_of(len(sample), FACTOR)
        if fusion not in (None, FACTOR):
            raise ValueError(f"there is no network for a fusion factor of {fusion}: a patch grid takes {FACTOR}")
        times = group_times(timestep, sample, FACTOR)
        labels = None if class_labels is None else class_labels.reshape(groups, FACTOR)
        small = functional.avg_pool2d(sample, _SIDE)
        output = split(self.network(grid(small), times, labels, return_dict=False)[0])
        lost = sample - _enlarged(small)
        output = _enlarged(output) + self._gain(times, sample.dtype).repeat_interleave(FACTOR, 0) * lost
        return UNet2DOutput(sample=output) if return_dict else (output,)

    def decide(self, plan: Plan) -> Plan:
        """The plan with the one factor there is on every row."""
        return schedule.fuse(plan, schedule.uniform(FACTOR))

    def initialise_from(self, vanilla: UNet2DModel) -> None:
        """Starts from the weights of a trained U-Net of one image of the same configuration.

        Each place gets a quarter of the class embeddings. Raises `RuntimeError` where the configurations differ.
        """
        own = self.network.class_embedding
        if own is None:
            self.network.load_state_dict(vanilla.state_dict())
            return
        given = {name: value for name, value in vanilla.state_dict().items() if not name.startswith("class_embedding.")}
        kept = {f"class_embedding.{name}": value for name, value in own.state_dict().items()}
        self.network.load_state_dict(given | kept)
        own.copy_from(vanilla.class_embedding)

    def _gain(self, times: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """[B] -> [B, 1, 1, 1]."""
        embedded = self.network.time_embedding(self.network.time_proj(times).to(dtype))
        return self.gain(functional.silu(embedded))[:, :, None, None]


def grid(images: torch.Tensor) -> torch.Tensor:
    """[4B, C, h, w] -> [B, C, 2h, 2w]: the images of a group in the order of reading."""
    return images.unflatten(0, (-1, _SIDE, _SIDE)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def split(grids: torch.Tensor) -> torch.Tensor:
    """The inverse of `grid`."""
    parts = grids.unflatten(3, (_SIDE, -1)).unflatten(2, (_SIDE, -1))
    return parts.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def _enlarged(images: torch.Tensor) -> torch.Tensor:
    """[N, C, h, w] -> [N, C, 2h, 2w], bilinear."""
    return functional.interpolate(images, scale_factor=_SIDE, mode="bilinear", align_corners=False)
