"""`MultistageUNet2DModel`: one encoder for every row, and a decoder for each stage of denoising (section 3.1)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DModel
from diffusers.configuration_utils import FrozenDict, register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from numpy.typing import NDArray
from torch import nn
from typing_extensions import override

from headrace.errors import ModelError, PlanError
from headrace.plan import Plan
from headrace.techniques.multistage.decoder import Decoder, check, widths_of, without_attention
from headrace.techniques.multistage.encoder import Encoder
from headrace.techniques.multistage.schedule import Stages, assign

Stage = int | Sequence[int] | NDArray[np.generic] | torch.Tensor


class MultistageUNet2DModel(ModelMixin, ConfigMixin):
    """A `UNet2DModel` whose up blocks and head there are once for each stage, in widths of their own.

    `unet` is the configuration of the `UNet2DModel`, whose `block_out_channels` are the encoder's. `decoders`, the one
    nearest the image first, are the widths of each: one a level, or one number that the encoder's multipliers are
    applied to (`decoder.widths_of`). `boundaries` are times that divide the stages (`schedule.Stages`). `attention`
    says which decoders have attention where `unet` has it; None: all. With `shared` False each decoder has an encoder
    of its own: the paper's baseline of separate networks (table 3), with tailored parameters where widths differ.

    Raises `PlanError` for boundaries that are none and `ModelError` for as many decoders as there are not stages,
    widths that cannot be divided into groups of norm or heads of attention, or blocks with skips of the image.
    """

    # As which a folder's model_index.json and `import` know it.
    __module__ = "headrace"
    # What it is called as, and what of a plan it is told beside that.
    stands_for = "UNet2DModel"
    columns = frozenset({"stage"})
    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        unet: Mapping[str, Any],
        decoders: Sequence[int | Sequence[int]],
        boundaries: Sequence[float] = (),
        attention: Sequence[bool] | None = None,
        shared: bool = True,
    ) -> None:
        super().__init__()
        self.stages = Stages(boundaries)
        for given, what in ((decoders, "decoders"), (attention, "values of attention")):
            if given is not None and len(given) != self.stages.count:
                raise ModelError(
                    f"{len(given)} {what} are given for the {self.stages.count} stages of "
                    f"{len(self.stages.boundaries)} boundaries",
                    "Give one for each stage: one more than boundaries",
                )
        settings = whole_configuration(unet)
        kinds = [settings if has else without_attention(settings) for has in attention or [True] * len(decoders)]
        planned = [(kind, widths_of(settings, decoder)) for kind, decoder in zip(kinds, decoders, strict=True)]
        for kind, widths in planned:
            check(kind, widths)
        encoders = 1 if shared else len(planned)
        self.encoders = nn.ModuleList(Encoder(UNet2DModel(**settings)) for _ in range(encoders))
        self.stage_decoders = nn.ModuleList(Decoder(kind, widths) for kind, widths in planned)
        self._settings = settings

    @property
    @override
    def config(self) -> FrozenDict:
        """The configuration of the U-Net, and this model's own over it."""
        return FrozenDict({**self._settings, **self._internal_dict})

    @override
    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float,
        class_labels: torch.Tensor | None = None,
        stage: Stage | None = None,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[torch.Tensor]:
        """[N, C, h, w] -> [N, C_out, h, w]: the encoder once for all rows, then each decoder for those of its stage.

        `timestep` is a number or one a row, `class_labels` is [N], `stage` a number or one a row, best on the host: on
        a device it has to be waited for. It may be left out where there is one stage. Raises `ValueError` for stages
        that are not there.
        """
        stages = self._checked(stage, len(sample))
        times = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        if (stages == stages[0]).all() and not self._learns:
            output = self.stage_decoders[stages[0]](self._encoder_of(stages[0])(sample, times, class_labels))
        else:
            output = self._mixed(sample, times, class_labels, stages)
        return UNet2DOutput(sample=output) if return_dict else (output,)

    def _encoder_of(self, stage: int) -> nn.Module:
        return self.encoders[stage if len(self.encoders) > 1 else 0]

    def _mixed(
        self, sample: torch.Tensor, times: torch.Tensor, labels: torch.Tensor | None, stages: NDArray[np.int64]
    ) -> torch.Tensor:
        """Rows in the order of their stages, so that each decoder's features lie together and are not copied.

        Where gradients are wanted, the weights of stages without rows get a gradient of 0: processes that train
        together exchange those of every weight.
        """
        order = np.argsort(stages, kind="stable")
        there, back = (_indices(places, sample.device) for places in (order, np.argsort(order)))
        sample, times, labels = sample[there], times[there], None if labels is None else labels[there]
        shared = self.encoders[0](sample, times, labels) if len(self.encoders) == 1 else None
        ends = np.searchsorted(stages[order], np.arange(len(self.stage_decoders) + 1)).tolist()
        parts = []
        for stage, (begin, end) in enumerate(pairwise(ends)):
            if end == begin:
                continue
            if shared is None:
                own = None if labels is None else labels[begin:end]
                features = self.encoders[stage](sample[begin:end], times[begin:end], own)
            else:
                features = shared.between(begin, end)
            parts.append(self.stage_decoders[stage](features))
        answers = torch.cat(parts)
        # One for each row; several, that stand together, where the decoders were fused for several images.
        output = answers.unflatten(0, (len(sample), -1))[back].flatten(0, 1)
        return output + self._nothing_of(set(stages.tolist())) if self._learns else output

    @property
    def _learns(self) -> bool:
        return self.training and torch.is_grad_enabled()

    def _nothing_of(self, stages: Collection[int]) -> torch.Tensor | float:
        """0, made of the weights of all other stages."""
        others = [stage for stage in range(len(self.stage_decoders)) if stage not in stages]
        parts = [self.stage_decoders[stage] for stage in others]
        if len(self.encoders) > 1:
            parts += [self.encoders[stage] for stage in others]
        total: torch.Tensor | float = 0.0
        for weight in (weight for part in parts for weight in part.parameters()):
            total = total + 0.0 * weight.sum()
        return total

    def _checked(self, stage: Stage | None, rows: int) -> NDArray[np.int64]:
        """[N] stages on the host."""
        if stage is None and len(self.stage_decoders) > 1:
            raise ValueError(
                f"the network has {len(self.stage_decoders)} stages and was not told which one a row is of"
            )
        given = stage.cpu().numpy() if isinstance(stage, torch.Tensor) else np.asarray(0 if stage is None else stage)
        stages = np.broadcast_to(given, (rows,)).astype(np.int64)
        wrong = stages[(stages < 0) | (stages >= len(self.stage_decoders))]
        if wrong.size:
            raise ValueError(
                f"there is no stage {wrong[0]}: the network has {len(self.stage_decoders)}, counted from 0"
            )
        return stages

    def decide(self, plan: Plan) -> Plan:
        """The plan with the stage of each row, by this model's boundaries. Raises `PlanError` as `assign` does."""
        return assign(plan, self.stages)

    def check(self, plan: Plan) -> None:
        """Raises `PlanError` for a plan with stages that there is no decoder for."""
        wrong = np.flatnonzero(plan.stage >= self.stages.count)
        if wrong.size:
            raise PlanError(
                f"row {wrong[0]} of the plan is of stage {plan.stage[wrong[0]]}, and the network has "
                f"{self.stages.count} decoders",
                f"Use stages 0 to {self.stages.count - 1}",
            )

    @torch.no_grad()
    def initialise_from(self, unified: UNet2DModel) -> None:
        """Takes over the weights of a trained `UNet2DModel`: encoders, and every decoder of its widths.

        Decoders of other widths stay as they are. Raises `ModelError`, before any weight is copied, where the encoder
        differs.
        """
        given = unified.state_dict()
        shapes = {name: tensor.shape for name, tensor in given.items()}
        for name, tensor in self.encoders[0].state_dict().items():
            if shapes.get(name) != tensor.shape:
                found = f"has {tuple(shapes[name])}" if name in shapes else "lacks it"
                raise ModelError(
                    f"the network to start from differs: {name} is {tuple(tensor.shape)} here, and it {found}",
                    "Start from a network of the encoder's configuration",
                )
        for part in (*self.encoders, *self.stage_decoders):
            own = part.state_dict()
            if all(shapes.get(name) == tensor.shape for name, tensor in own.items()):
                part.load_state_dict({name: given[name] for name in own})


def whole_configuration(unet: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a `UNet2DModel` with its defaults filled in.

    Raises `ModelError` for one that diffusers refuses, and for down blocks that pass the image on.
    """
    settings = {name: value for name, value in unet.items() if not name.startswith("_")}
    try:
        with torch.device("meta"):
            config = UNet2DModel(**settings).config
    except (TypeError, ValueError, ZeroDivisionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"the encoder's configuration is no UNet2DModel's: {reason}", "Change its settings") from error
    if any("Skip" in kind for kind in config.down_block_types):
        raise ModelError("blocks with skips of the image have no decoder of their own", "Use blocks without skips")
    return {name: value for name, value in config.items() if not name.startswith("_")}


def _indices(places: NDArray[np.int64], device: torch.device) -> torch.Tensor:
    host = torch.from_numpy(places)
    return (host.pin_memory() if device.type == "cuda" else host).to(device, non_blocking=True)
