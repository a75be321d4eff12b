"""What the families without text share: a `UNet2DModel`, unconditional or with class embeddings.

A network whose configuration names a `null_class` was trained with labels left out, and is guided away from that class
(classifier-free guidance) where a request asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from typing_extensions import override

from headrace.errors import UnsupportedModelError
from headrace.models.conditioning import Conditioning
from headrace.models.denoiser import Rows
from headrace.models.pipelines.base import require_class, require_settings
from headrace.models.pipelines.told import ToldPipeline
from headrace.request import Request


class UNet2DPipeline(ToldPipeline):
    """A `UNet2DModel`; class-conditional where its configuration has `num_class_embeds`."""

    networks = frozenset({"UNet2DModel"})

    @property
    @override
    def network(self) -> torch.nn.Module:
        return self.components.unet

    @property
    def _null_class(self) -> int | None:
        """The label that stands for no class: what guidance moves away from."""
        label: int | None = self.components.unet.config.get("null_class")
        return label

    @property
    @override
    def guided(self) -> bool:
        return super().guided or self._null_class is not None

    @override
    def check_model(self) -> None:
        require_settings(self.name, self.network, has=("sample_size",), lacks=("class_embed_type",))
        kind = self.components.unet.config.time_embedding_type
        if kind not in ("positional", "fourier"):  # timesteps looked up in a table: plans may have fractional ones
            raise UnsupportedModelError(
                f"{self.name}: the UNet2DModel has time_embedding_type = {kind!r}",
                "Use a network with positional or fourier time embeddings",
            )

    @override
    def check_conditioning(self, request: Request) -> None:
        classes = self.components.unet.config.num_class_embeds
        if classes is None:
            super().check_conditioning(request)
        else:
            require_class(request, self.name, classes if self._null_class is None else self._null_class)

    @override
    def encode(self, requests: Sequence[Request]) -> list[Conditioning]:
        return [encode_class(request.class_label, self.device, self._null_class) for request in requests]

    @override
    def evaluate(self, rows: Rows) -> torch.Tensor:
        labels = rows.conditioning.get("class_labels")
        given = {"class_labels": labels, **self.told(rows)}
        output = self.components.unet(rows.sample, rows.timestep, return_dict=False, **given)[0]
        return output[:, : rows.sample.shape[1]]


def encode_class(label: int | None, device: torch.device, null: int | None = None) -> Conditioning:
    """A class label as conditioning; `null` is the label of the unconditional branch, where the model has one."""
    if label is None:
        return Conditioning()
    positive = {"class_labels": torch.tensor(label, device=device)}
    return Conditioning(positive, None if null is None else {"class_labels": torch.tensor(null, device=device)})
