"""The diffusion objective: a `UNet2DModel` on pixels or latents, unconditional or class-conditional."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMPipeline, LDMPipeline
from PIL import Image
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
from headrace.training.export import save_component
from headrace.training.groups import check_batch, check_enough, spread_groups
from headrace.training.network import build_network
from headrace.training.objectives.denoising import DenoisingObjective
from headrace.training.objectives.objective import Batch
from headrace.training.processes.build import build_process
from headrace.training.processes.process import Noised
from headrace.training.spaces.autoencoders import load_autoencoder, pictures_of, read_autoencoder
from headrace.training.spaces.fused_latent import FusedLatentSpace
from headrace.training.spaces.latent import LatentSpace
from headrace.training.spaces.low_resolution import make_low_resolution
from headrace.training.spaces.space import PixelSpace, Space
from headrace.training.tables.diffusion import DiffusionPhase

_SHOWN = 40
_COLUMNS = 10
_SCORED = 500
_TOGETHER = 50


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
