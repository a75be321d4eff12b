"""The diffusion objective: a `UNet2DModel` on pixels, unconditional or class-conditional (arXiv:2006.11239)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from PIL import Image

from headrace.engine import Engine, EngineSettings
from headrace.errors import DataError, RecipeError
from headrace.models.pipelines.pixel import PixelPipeline
from headrace.request import Request
from headrace.training.data import ImageSet, to_signed
from headrace.training.export import save_component
from headrace.training.objectives.objective import Batch, Losses, Objective
from headrace.training.objectives.weighting import min_snr_weights
from headrace.training.pictures import image_grid
from headrace.training.tables.diffusion import DiffusionPhase

_SHOWN = 40
_COLUMNS = 10
_SCORED = 500


class DiffusionObjective(Objective):
    """Predicts noise, velocity or the picture itself (the solver's `prediction_type`) of a noised picture."""

    def __init__(self, phase: DiffusionPhase, data: ImageSet) -> None:
        super().__init__()
        check_labels(phase, data)
        self.phase = phase
        self.data = data
        self.unet, self.solver = build_networks(phase)
        if phase.initial is not None:
            start_from(self.unet, Path(phase.initial).expanduser())

    def batch(self, indices: np.ndarray) -> Batch:
        """`images`: float32 [B, 3, H, W] in [-1, 1]; `labels`: int64 [B], for a class-conditional network."""
        return self._part(self.data, torch.from_numpy(indices))

    def _part(self, data: ImageSet, where: torch.Tensor) -> Batch:
        batch = {"images": to_signed(data.images[where].to(self.unet.device))}
        if self.phase.classes is not None and data.labels is not None:
            batch["labels"] = data.labels[where].to(self.unet.device)
        return batch

    def draws(self, count: int, generator: torch.Generator) -> Batch:
        """`noise` [B, 3, H, W], `timesteps` int64 [B], `mirrored` bool [B]."""
        device, steps = generator.device, len(self.solver.alphas_cumprod)
        return {
            "mirrored": torch.rand(count, generator=generator, device=device) < 0.5,
            "noise": torch.randn((count, *self.data.images.shape[1:]), generator=generator, device=device),
            "timesteps": torch.randint(0, steps, (count,), generator=generator, device=device),
        }

    def forward(self, batch: Batch) -> Losses:
        """`loss`: squared error (Ho et al. 2020, equation 14), weighted by min-SNR where the recipe says so."""
        images, timesteps = batch["images"], batch["timesteps"]
        if self.phase.flip:
            images = torch.where(batch["mirrored"][:, None, None, None], images.flip(-1), images)
        error = self._error(images, batch["noise"], timesteps, batch.get("labels"))
        weights = min_snr_weights(self.solver, timesteps, self.phase.min_snr_gamma)
        return {"loss": (weights * error).mean(), "unweighted": error.mean().detach()}

    def _error(
        self, images: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor, labels: torch.Tensor | None
    ) -> torch.Tensor:
        """Mean squared error [B] of what is predicted, in float32."""
        noisy = self.solver.add_noise(images, noise, timesteps)
        output = self.unet(noisy, timesteps, class_labels=labels, return_dict=False)[0].float()
        kind = self.solver.config.prediction_type
        if kind == "v_prediction":
            target = self.solver.get_velocity(images, noise, timesteps)
        else:
            target = noise if kind == "epsilon" else images
        return (output - target).square().mean(dim=(1, 2, 3))

    def item_count(self) -> int:
        """Pictures in the data set."""
        return len(self.data)

    def pipeline(self) -> DDPMPipeline:
        """The network as it is, in diffusers' pipeline."""
        return DDPMPipeline(unet=self.unet, scheduler=self.solver)

    def sample_grid(self) -> Image.Image:
        """Pictures by DDIM from seeds 0, 1, ...; a class-conditional network's columns are its first ten classes."""
        engine = Engine(PixelPipeline(self.pipeline(), "training"), EngineSettings(channels_last=False))
        requests = []
        for seed in range(_SHOWN):
            fields = {"seed": seed, "solver": "ddim", "steps": self.phase.sample_steps}
            if self.phase.classes is not None:
                fields["class_label"] = seed % _COLUMNS % self.phase.classes
            requests.append(Request.parse(fields))
        pixels = np.stack([np.asarray(result.image) for result in engine.generate(requests)])
        return image_grid(torch.from_numpy(pixels).permute(0, 3, 1, 2), columns=_COLUMNS)

    def scores(self) -> dict[str, float]:
        """`held_out_loss`: the unweighted loss on pictures that are not learnt, always with the same noise."""
        held_out = self.data.held_out
        if held_out is None:
            return {}
        count = min(_SCORED, len(held_out))
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn((count, *held_out.images.shape[1:]), generator=generator).to(self.unet.device)
        timesteps = torch.linspace(0, len(self.solver.alphas_cumprod) - 1, count).round().long().to(self.unet.device)
        where = torch.linspace(0, len(held_out) - 1, count).round().long()
        timesteps = timesteps[torch.randperm(count, generator=generator)]
        errors = []
        for part in torch.arange(count).split(50):
            batch = self._part(held_out, where[part])
            errors.append(self._error(batch["images"], noise[part], timesteps[part], batch.get("labels")))
        return {"held_out_loss": torch.cat(errors).mean().item()}

    def export(self, folder: Path) -> None:
        """Write `unet` and `scheduler`."""
        save_component(self.unet, folder / "unet")
        save_component(self.solver, folder / "scheduler")


def build_networks(phase: DiffusionPhase) -> tuple[UNet2DModel, DDPMScheduler]:
    """The network and the solver that the recipe describes. Raises `RecipeError` when diffusers refuses them."""
    try:
        return UNet2DModel(num_class_embeds=phase.classes, **phase.network), DDPMScheduler(**phase.solver)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise RecipeError(f"the networks of the recipe are refused: {error}", "See diffusers' UNet2DModel") from None


def check_labels(phase: DiffusionPhase, data: ImageSet) -> None:
    """Raises `DataError` where a class-conditional network would not find its classes, or would find others."""
    if phase.classes is None:
        return
    for one in (data, data.held_out):
        if one is None:
            continue
        if one.labels is None:
            raise DataError("the data set has no class labels", "Set data.label_column, or train without classes")
        wrong = (one.labels < 0) | (one.labels >= phase.classes)
        if wrong.any():
            row = int(wrong.nonzero()[0])
            raise DataError(
                f"picture {row} has the class label {int(one.labels[row])}, and the recipe has {phase.classes} classes",
                "Set `classes` to the largest label plus one, or mend the labels",
            )


def start_from(unet: UNet2DModel, model: Path) -> None:
    """Take the weights of a trained model where names and shapes agree. Raises `RecipeError` where nothing does."""
    folder = model / "unet" if (model / "unet").is_dir() else model
    try:
        found = UNet2DModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).state_dict()
    except (OSError, ValueError) as error:
        raise RecipeError(f"initial = {str(model)!r} cannot be read: {error}", "Name a diffusers folder") from None
    own = unet.state_dict()
    taken = {name: value for name, value in found.items() if name in own and own[name].shape == value.shape}
    if not taken:
        raise RecipeError(f"initial = {str(model)!r} is of another network", "Name a model of the same configuration")
    unet.load_state_dict(taken, strict=False)
