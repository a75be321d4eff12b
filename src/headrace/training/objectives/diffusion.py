"""The diffusion objective: a `UNet2DModel` on pixels or latents, unconditional or class-conditional."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMPipeline, LDMPipeline
from PIL import Image
from torch import nn
from typing_extensions import override

from headrace.engine import Engine, EngineSettings
from headrace.errors import RecipeError
from headrace.models import solvers
from headrace.models.pipelines.base import Pipeline
from headrace.models.pipelines.latent import LatentDiffusionPipeline
from headrace.models.pipelines.pixel import PixelPipeline
from headrace.pictures.grid import image_grid
from headrace.plan.trace import trace
from headrace.request import Request
from headrace.techniques.multistage.schedule import Stages
from headrace.training.data import ImageSet
from headrace.training.denoising_work import count_parts
from headrace.training.early_stopping import EarlyStopping
from headrace.training.export import save_component
from headrace.training.groups import check_batch, check_enough, spread_groups
from headrace.training.network import build_network
from headrace.training.objectives.denoising import DenoisingObjective, items
from headrace.training.objectives.objective import Batch, Losses
from headrace.training.processes.build import build_process
from headrace.training.processes.process import Noised
from headrace.training.spaces.autoencoders import load_autoencoder, pictures_of, read_autoencoder
from headrace.training.spaces.fused_latent import FusedLatentSpace
from headrace.training.spaces.latent import LatentSpace
from headrace.training.spaces.low_resolution import make_low_resolution
from headrace.training.spaces.space import PixelSpace, Space
from headrace.training.tables.diffusion import DiffusionPhase
from headrace.training.work import Work

_SHOWN = 40
_COLUMNS = 10
_SCORED = 500
_TOGETHER = 50
# Behind the name of a part, for its pictures at low size.
_LOW = "_low"


class DiffusionObjective(DenoisingObjective):
    """What the phase's process asks of a network, on the phase's space, given the class where there are classes.

    `folder` is the folder of the model being built, where an earlier phase may have put an autoencoder.
    """

    def __init__(self, phase: DiffusionPhase, data: ImageSet, folder: Path) -> None:
        if phase.classes is not None:
            for one in filter(None, (data, data.held_out)):
                one.class_labels(phase.classes)  # refused now, where there are none or others
        process = build_process(phase.process, latent=phase.space == "latent")
        trace(solvers.build(process.sampler, process.solver), phase.sample_steps)  # refused now, not at the first grid
        super().__init__(build_space(phase, data.images, folder), process)
        check_groups(phase, data, self.space)
        self.phase, self.data = phase, data
        self.unet = build_network(phase, self.space.shape)
        self.stages = None if phase.stages is None else Stages(self.unet.config["boundaries"])
        self.low = make_low_resolution(phase.low_resolution, self.space, self.unet)
        self.stopping = self._stopping()
        self._counted: dict[str, tuple[int, float]] | None = None

    def _stopping(self) -> EarlyStopping | None:
        """Of the separate networks, where the recipe has patience."""
        table = self.phase.stages
        if table is None or table.patience is None:
            return None
        if self.data.held_out is None:
            raise RecipeError("stages.patience is set, and there are no pictures to score", "Set data.held_out")
        pairs = zip(self.unet.encoders, self.unet.stage_decoders, strict=True)
        return EarlyStopping([nn.ModuleList(pair) for pair in pairs], table.patience)

    @property
    @override
    def group(self) -> int:
        """Pictures that share an evaluation of the network, or a latent."""
        return self.phase.fusion * self.space.group

    def batch(self, indices: np.ndarray) -> Batch:
        """What the space needs of these pictures; `labels`: int64 [B], for a class-conditional network."""
        return self.data_batch(indices, self.unet.device) | self._labels(self.data, torch.from_numpy(indices))

    @override
    def draws(self, count: int, generator: torch.Generator) -> Batch:
        """What the process needs; `unlabelled` [B] as well where labels are left out at times."""
        drawn = super().draws(count, generator)
        if self.phase.class_dropout == 0:
            return drawn
        share = torch.rand(count, generator=generator, device=generator.device)
        return drawn | {"unlabelled": share < self.phase.class_dropout}

    def _labels(self, data: ImageSet, where: torch.Tensor) -> Batch:
        if self.phase.classes is None or data.labels is None:
            return {}
        return {"labels": data.labels[where].to(self.unet.device)}

    @override
    def predict(self, noised: Noised, batch: Batch) -> torch.Tensor:
        labels = batch.get("labels")
        if labels is not None and "unlabelled" in batch:
            labels = labels.masked_fill(batch["unlabelled"], self.unet.config["null_class"])
        options = {} if self.stages is None else {"stage": self._stage_of(batch["uniform"], self.stages)}
        return self.unet(noised.input, noised.timestep, class_labels=labels, return_dict=False, **options)[0]

    @override
    def forward(self, batch: Batch) -> Losses:
        """As `DenoisingObjective`; items of a stage that has stopped count as 0 in the loss and are not evaluated."""
        stopped = [] if self.stopping is None else list(self.stopping.stops)
        if not stopped or self.stages is None:
            return super().forward(batch)
        learns = torch.from_numpy(~np.isin(self._stage_of(batch["uniform"], self.stages), stopped))
        if not learns.any():
            nothing = torch.stack([0.0 * parameter.sum() for parameter in self.trainable()]).sum()
            return {"loss": nothing, "unweighted": nothing.detach()}
        losses = super().forward(items(batch, learns.to(batch["uniform"].device)))
        return losses | {"loss": losses["loss"] * learns.float().mean().item()}

    @override
    def work(self, steps: int) -> dict[str, Work]:
        stops = {} if self.stopping is None else {f"stage_{one}": step for one, step in self.stopping.stops.items()}
        return {
            name: Work(macs, share, min(steps, stops.get(name.removesuffix(_LOW), steps)))
            for name, (macs, share) in self._parts().items()
        }

    def _parts(self) -> dict[str, tuple[int, float]]:
        if self._counted is None:
            self._counted = count_parts(self._part_of, self._evaluated, self.group)
        return self._counted

    def _part_of(self, uniform: torch.Tensor) -> list[str]:
        """[B] names of what an item with such a draw goes through: its stage, at full or at low size."""
        stages = [] if self.stages is None else self._stage_of(uniform, self.stages).tolist()
        names = [f"stage_{stage}" for stage in stages] or ["network"] * len(uniform)
        if self.low is None:
            return names
        early = self.process.early(self.process.levels(uniform), self.low.share).tolist()
        return [name + _LOW if low else name for name, low in zip(names, early, strict=True)]

    def _evaluated(self, draw: float) -> object:
        """A forward pass of one group of nothing."""
        device, shape = self.unet.device, self.space.shape
        uniform = torch.full((self.phase.fusion,), draw, device=device)
        clean = torch.zeros((len(uniform), shape.channels, shape.size, shape.size), device=device)
        if self._part_of(uniform.cpu())[0].endswith(_LOW) and self.low is not None:
            clean = self.low.corner(clean)
        noised = self.process.noised(clean, clean, self.process.levels(uniform))
        labels = {} if self.phase.classes is None else {"labels": torch.zeros(len(uniform), dtype=torch.long)}
        return self.predict(noised, {"uniform": uniform, **{name: value.to(device) for name, value in labels.items()}})

    @property
    @override
    def stops_early(self) -> bool:
        return self.stopping is not None

    @property
    @override
    def over(self) -> bool:
        return self.stopping is not None and self.stopping.over

    @override
    def judge(self, step: int, scores: Mapping[str, float]) -> list[str]:
        if self.stopping is None or self.stages is None:
            return []
        names = {stage: f"held_out_loss_{stage}" for stage in range(self.stages.count)}
        return self.stopping.judge({stage: scores[name] for stage, name in names.items() if name in scores}, step)

    @override
    def held(self) -> list[tuple[nn.Parameter, torch.Tensor]]:
        return [] if self.stopping is None else self.stopping.held()

    def _stage_of(self, uniform: torch.Tensor, stages: Stages) -> np.ndarray:
        """[B] on the host: the decoder of each item, by its noise level."""
        signal, sigma = (part.cpu().numpy() for part in self.process.parts(self.process.levels(uniform)))
        return stages.of_level(signal, sigma)

    def pipeline(self) -> Pipeline:
        """The network as it is, in the engine's pipeline."""
        if isinstance(self.space, LatentSpace):
            parts = LDMPipeline(vqvae=self.space.autoencoder, unet=self.unet, scheduler=self.process.solver)
            return LatentDiffusionPipeline(parts, "training")
        return PixelPipeline(DDPMPipeline(unet=self.unet, scheduler=self.process.solver), "training")

    def sample_grid(self) -> Image.Image:
        """Pictures from seeds 0, 1, ...; a class-conditional network's columns are its first ten classes.

        Those of one fused latent stand side by side.
        """
        engine = Engine(self.pipeline(), EngineSettings(channels_last=False))
        requests = []
        for seed in range(_SHOWN // self.space.group):
            fields = {"seed": seed, "solver": self.process.sampler, "steps": self.phase.sample_steps}
            if self.phase.classes is not None:
                fields["class_label"] = seed % _COLUMNS % self.phase.classes
            requests.append(Request.parse(fields))
        pixels = np.stack([np.asarray(image) for result in engine.generate(requests) for image in result.images])
        return image_grid(torch.from_numpy(pixels).permute(0, 3, 1, 2), columns=_COLUMNS)

    def scores(self) -> dict[str, float]:
        """`held_out_loss`: the unweighted loss at full size on pictures that are not learnt, always the same draws.

        Of a network with stages also that of each, `held_out_loss_0` nearest the image, where there are pictures of it:
        a stage that overfits shows here first, and is the one to stop early (the paper's table 3).
        """
        data = self.data.held_out
        if data is None:
            return {}
        where = torch.from_numpy(spread_groups(len(data), _SCORED, self.group))
        count, groups = len(where), len(where) // self.group
        space = self.space.over(data.images[where])
        generator = torch.Generator().manual_seed(0)
        nothing = torch.zeros(count, dtype=torch.bool)
        draws = self.draws(count, generator) | {"mirrored": nothing}
        if "unlabelled" in draws:
            draws["unlabelled"] = nothing
        levels = (torch.randperm(groups, generator=generator) + 0.5) / groups  # every one its share
        draws["uniform"] = levels.repeat_interleave(self.group)
        errors = []
        for part in torch.arange(count).split(max(1, _TOGETHER // self.group) * self.group):
            batch = space.batch(part, self.unet.device) | self._labels(data, where[part])
            drawn = {name: values[part].to(self.unet.device) for name, values in draws.items()}
            errors.append(self.errors(batch | drawn)[0])
        error = torch.cat(errors)
        return {"held_out_loss": error.mean().item()} | self._scores_by_stage(error, draws["uniform"])

    def _scores_by_stage(self, error: torch.Tensor, uniform: torch.Tensor) -> dict[str, float]:
        if self.stages is None:
            return {}
        stage = torch.from_numpy(self._stage_of(uniform[:: len(uniform) // len(error)], self.stages))
        parts = {f"held_out_loss_{one}": error.cpu()[stage == one] for one in range(self.stages.count)}
        return {name: part.mean().item() for name, part in parts.items() if len(part)}

    def export(self, folder: Path) -> None:
        """Write `unet` and `scheduler`, and the autoencoder of latents as `vae`."""
        if isinstance(self.space, LatentSpace):
            save_component(self.space.autoencoder, folder / "vae")
        save_component(self.unet, folder / "unet")
        save_component(self.process.solver, folder / "scheduler")


def build_space(phase: DiffusionPhase, images: torch.Tensor, folder: Path) -> Space:
    """The space that the recipe chooses. Raises `RecipeError` or `TrainingError` when latents lack an autoencoder."""
    if phase.space == "latent":
        own = None if phase.autoencoder is None else Path(phase.autoencoder).expanduser()
        autoencoder = load_autoencoder(folder) if own is None else read_autoencoder(own)
        kind = FusedLatentSpace if pictures_of(autoencoder) > 1 else LatentSpace
        return kind(autoencoder, images, phase.flip)
    if phase.autoencoder is not None:
        raise RecipeError("the recipe names an autoencoder, and its space is that of pixels", 'Set space = "latent"')
    return PixelSpace(images, phase.flip)


def check_groups(phase: DiffusionPhase, data: ImageSet, space: Space) -> None:
    """Raises where the pictures, or latents of several pictures, cannot be learnt in the groups that a phase asks for.

    `DataError` for fewer pictures than a group has, `RecipeError` for what does not fit together.
    """
    for one in filter(None, (data, data.held_out)):
        check_enough(one, phase.fusion * space.group)
    if space.group == 1:
        return
    check_batch(phase.loop.batch_size, space.group)
    chosen = {"fusion": phase.fusion > 1, "classes": phase.classes, "low_resolution": phase.low_resolution}
    for name in (name for name, value in chosen.items() if value):
        raise RecipeError(
            f"{name} is set, and a latent of the autoencoder is of {space.group} pictures already",
            f"Leave {name} out, or take an autoencoder of single pictures",
        )
