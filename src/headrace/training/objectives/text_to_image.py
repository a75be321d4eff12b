"""The text-to-image objective: latent diffusion with a text encoder that learns too (arXiv:2112.10752)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from headrace.errors import RecipeError
from headrace.training.data import ImageSet
from headrace.training.export import save_component
from headrace.training.objectives.autoencoder import encode_moments, load_autoencoder, spread
from headrace.training.objectives.objective import Batch, Losses, Objective
from headrace.training.objectives.weighting import min_snr_weights
from headrace.training.pictures import image_grid
from headrace.training.tables.text_to_image import TextToImagePhase
from headrace.training.tokenizer import train_tokenizer

_SHOWN = 16
_SAMPLE_STEPS = 20


class TextToImageObjective(Objective):
    """Predicts velocity or noise (the solver's `prediction_type`) of cached latents, given a caption.

    Captions are padded to the tokenizer's full length without a mask: that is what `StableDiffusionPipeline` feeds.
    """

    def __init__(self, phase: TextToImagePhase, data: ImageSet, folder: Path) -> None:
        super().__init__()
        self.phase = phase
        self.data = data
        self.autoencoder = load_autoencoder(folder).requires_grad_(False).eval()
        self.tokenizer = train_tokenizer(data.captions, phase.vocabulary, phase.max_tokens, folder / "tokenizer")
        self.text_encoder, self.unet, self.solver = build_networks(phase, self.tokenizer)
        self.empty = self.tokenize([""])[0]
        self.tokens = self.tokenize(data.captions)
        self._latents: tuple[torch.Tensor, torch.Tensor] | None = None

    def tokenize(self, captions: Sequence[str]) -> torch.Tensor:
        """Int64 [N, max_tokens], padded and truncated as the pipeline does."""
        length = self.tokenizer.model_max_length
        settings = {"padding": "max_length", "max_length": length, "truncation": True, "return_tensors": "pt"}
        return self.tokenizer(list(captions), **settings).input_ids

    def batch(self, indices: np.ndarray) -> Batch:
        """`tokens` [B, L]; `mean` and `deviation` [B, C, h, w] of the latents, scaled; `empty` [L]."""
        device = self.unet.device
        mean, deviation = self.latents()
        where = torch.from_numpy(indices).to(device)
        return {
            "tokens": self.tokens[indices].to(device),
            "mean": mean[where],
            "deviation": deviation[where],
            "empty": self.empty.to(device),
        }

    def latents(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation [N, C, h, w] of the whole data set's latents, scaled; encoded on the first call."""
        if self._latents is None:
            scale = self.autoencoder.config.scaling_factor
            mean, deviation = encode_moments(self.autoencoder, self.data.images)
            self._latents = (mean * scale, deviation * scale)
        return self._latents

    def draws(self, count: int, generator: torch.Generator) -> Batch:
        """`posterior` and `noise` [B, C, h, w], `timesteps` int64 [B], `dropped` bool [B]: captions left out."""
        shape, device = (count, *self.latents()[0].shape[1:]), generator.device
        steps = len(self.solver.alphas_cumprod)
        return {
            "posterior": torch.randn(shape, generator=generator, device=device),
            "noise": torch.randn(shape, generator=generator, device=device),
            "timesteps": torch.randint(0, steps, (count,), generator=generator, device=device),
            "dropped": torch.rand(count, generator=generator, device=device) < self.phase.caption_dropout,
        }

    def forward(self, batch: Batch) -> Losses:
        """`loss`: squared error weighted by min-SNR (arXiv:2303.09556); `unweighted`: the same without weights."""
        noise, timesteps = batch["noise"], batch["timesteps"]
        latents = batch["mean"] + batch["deviation"] * batch["posterior"]
        tokens = torch.where(batch["dropped"][:, None], batch["empty"], batch["tokens"])
        conditioning = self.text_encoder(tokens)[0]
        noisy = self.solver.add_noise(latents, noise, timesteps)
        output = self.unet(noisy, timesteps, encoder_hidden_states=conditioning).sample.float()
        velocity = self.solver.config.prediction_type == "v_prediction"
        target = self.solver.get_velocity(latents, noise, timesteps) if velocity else noise
        error = (output - target).square().mean(dim=(1, 2, 3))
        weights = min_snr_weights(self.solver, timesteps, self.phase.min_snr_gamma)
        return {"loss": (weights * error).mean(), "unweighted": error.mean().detach()}

    def item_count(self) -> int:
        """Pictures in the data set."""
        return len(self.data)

    def sample_grid(self) -> Image.Image:
        """Pictures of the data set beside what their captions give."""
        rows = spread(torch.arange(len(self.data)), _SHOWN)
        made = self.generate([self.data.captions[row] for row in rows])
        return image_grid(torch.stack([self.data.images[rows], made], dim=1).flatten(0, 1), columns=8)

    def generate(self, captions: Sequence[str]) -> torch.Tensor:
        """uint8 [N, 3, H, W] from diffusers' own pipeline, DDIM, 20 steps, seeds 0 to N-1."""
        pipeline = self.pipeline()
        seeds = [torch.Generator().manual_seed(number) for number in range(len(captions))]
        images = pipeline(
            list(captions),
            num_inference_steps=_SAMPLE_STEPS,
            guidance_scale=self.phase.sample_guidance,
            generator=seeds,
            output_type="np",
        ).images
        return torch.from_numpy((images * 255).round().astype(np.uint8)).permute(0, 3, 1, 2)

    def pipeline(self) -> StableDiffusionPipeline:
        """The networks as they are, in diffusers' pipeline."""
        pipeline = StableDiffusionPipeline(
            vae=self.autoencoder,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=self.solver,
            safety_checker=None,
            feature_extractor=None,
            image_encoder=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def scores(self) -> dict[str, float]:
        """`match`: mean correlation of generated and real pictures over a few captions, 1 when they are the same."""
        rows = spread(torch.arange(len(self.data)), _SHOWN)
        made = self.generate([self.data.captions[row] for row in rows]).float().flatten(1)
        real = self.data.images[rows].float().flatten(1)
        pairs = zip(made, real, strict=True)
        correlations = [torch.corrcoef(torch.stack(pair))[0, 1].nan_to_num(0.0) for pair in pairs]
        return {"match": torch.stack(correlations).mean().item()}

    def export(self, folder: Path) -> None:
        """Write `unet`, `text_encoder` and `scheduler` (the tokenizer is there since the start)."""
        save_component(self.unet, folder / "unet")
        save_component(self.text_encoder, folder / "text_encoder")
        save_component(self.solver, folder / "scheduler")


def build_networks(
    phase: TextToImagePhase, tokenizer: CLIPTokenizer
) -> tuple[CLIPTextModel, UNet2DConditionModel, DDIMScheduler]:
    """The networks and the solver that the recipe describes. Raises `RecipeError` when a library refuses them."""
    text = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": tokenizer.model_max_length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **phase.text_encoder,
    }
    try:
        text_encoder = CLIPTextModel(CLIPTextConfig(**text))
        unet = UNet2DConditionModel(cross_attention_dim=text_encoder.config.hidden_size, **phase.network)
        return text_encoder, unet, DDIMScheduler(**phase.solver)
    except (TypeError, ValueError) as error:
        raise RecipeError(
            f"the networks of the recipe are refused: {error}", "See diffusers and transformers"
        ) from None
