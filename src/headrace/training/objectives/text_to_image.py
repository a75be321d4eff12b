"""The text-to-image objective: latent diffusion with a text encoder that learns too (arXiv:2112.10752)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from typing_extensions import override

from headrace.engine import Engine, EngineSettings
from headrace.models.pipelines.text import StableDiffusionPipeline as StableDiffusionAdapter
from headrace.pictures.grid import image_grid
from headrace.pictures.spread import spread
from headrace.request import Request
from headrace.training.data import ImageSet
from headrace.training.export import save_component
from headrace.training.groups import check_enough
from headrace.training.objectives.denoising import DenoisingObjective
from headrace.training.objectives.objective import Batch
from headrace.training.pretrained import copy_frozen_parts, read_pretrained
from headrace.training.processes.build import build_process
from headrace.training.processes.process import Noised
from headrace.training.spaces.autoencoders import load_autoencoder
from headrace.training.spaces.latent import LatentSpace
from headrace.training.spaces.low_resolution import make_low_resolution
from headrace.training.tables.text_to_image import TextToImagePhase
from headrace.training.text_networks import build_networks, continued
from headrace.training.tokenizer import train_tokenizer

_SHOWN = 16
_SAMPLE_STEPS = 20


class TextToImageObjective(DenoisingObjective):
    """What the phase's process asks of a network on cached latents, given a caption.

    Captions are padded to the tokenizer's full length without a mask: that is what `StableDiffusionPipeline` feeds.
    With `fusion` = K > 1 the network takes groups of K pictures, each with its caption, at one noise level (FuseBatch).
    """

    def __init__(self, phase: TextToImagePhase, data: ImageSet, folder: Path) -> None:
        check_enough(data, phase.fusion)
        found = None if phase.initial is None else read_pretrained(phase.initial)
        autoencoder = load_autoencoder(folder) if found is None else found.autoencoder
        space = LatentSpace(autoencoder, data.images, flip=False)  # captions may speak of left and right
        super().__init__(space, build_process(phase.process, latent=True, defaults=found.solver if found else {}))
        self.phase, self.data = phase, data
        if phase.initial is None or found is None:
            self.tokenizer = train_tokenizer(data.captions, phase.vocabulary, phase.max_tokens, folder / "tokenizer")
            self.text_encoder, self.unet = build_networks(phase, self.tokenizer)
        else:
            self.tokenizer, self.text_encoder = found.tokenizer, found.text_encoder
            self.unet = continued(phase, found.unet)
            copy_frozen_parts(phase.initial, found, folder)
            if not (folder / "unet").is_dir():
                self.export(folder)  # from here on the run continues without the model that it starts from
        self.text_encoder.requires_grad_(phase.train_text_encoder)
        self.low = make_low_resolution(phase.low_resolution, space, self.unet)
        self.empty = self.tokenize([""])[0]
        self.tokens = self.tokenize(data.captions)

    @property
    @override
    def group(self) -> int:
        """Pictures that share an evaluation of the network."""
        return self.phase.fusion

    def tokenize(self, captions: Sequence[str]) -> torch.Tensor:
        """Int64 [N, max_tokens], padded and truncated as the pipeline does."""
        length = self.tokenizer.model_max_length
        settings = {"padding": "max_length", "max_length": length, "truncation": True, "return_tensors": "pt"}
        return self.tokenizer(list(captions), **settings).input_ids

    def batch(self, indices: np.ndarray) -> Batch:
        """`tokens` and `empty` (those of no caption) [B, L], and what the space needs of these pictures."""
        device = self.unet.device
        tokens = self.tokens[indices].to(device)
        text = {"tokens": tokens, "empty": self.empty.to(device).expand_as(tokens)}
        return self.data_batch(indices, device) | text

    @override
    def draws(self, count: int, generator: torch.Generator) -> Batch:
        """Those of the process and the space; `dropped` bool [B]: captions left out, so that guidance is possible.

        A group's captions are left out together: in guidance, too, groups are of one branch.
        """
        coin = torch.rand(count // self.group, generator=generator, device=generator.device)
        dropped = (coin < self.phase.caption_dropout).repeat_interleave(self.group)
        return super().draws(count, generator) | {"dropped": dropped}

    @override
    def predict(self, noised: Noised, batch: Batch) -> torch.Tensor:
        tokens = torch.where(batch["dropped"][:, None], batch["empty"], batch["tokens"])
        conditioning = self.text_encoder(tokens)[0]
        return self.unet(noised.input, noised.timestep, encoder_hidden_states=conditioning, return_dict=False)[0]

    def sample_grid(self) -> Image.Image:
        """Pictures of the data set beside what their captions give."""
        rows = self._shown_rows()
        pairs = torch.stack([self.data.images[rows], self.generate([self.data.captions[row] for row in rows])], dim=1)
        return image_grid(pairs.flatten(0, 1), columns=8)

    def scores(self) -> dict[str, float]:
        """`match`: mean correlation of generated and real pictures over a few captions, 1 when they are the same."""
        rows = self._shown_rows()
        made = self.generate([self.data.captions[row] for row in rows]).float().flatten(1)
        real = self.data.images[rows].float().flatten(1)
        pairs = zip(made, real, strict=True)
        correlations = [torch.corrcoef(torch.stack(pair))[0, 1].nan_to_num(0.0) for pair in pairs]
        return {"match": torch.stack(correlations).mean().item()}

    def _shown_rows(self) -> torch.Tensor:
        captioned = [row for row, caption in enumerate(self.data.captions) if caption.strip()]
        return spread(torch.tensor(captioned), _SHOWN)

    def generate(self, captions: Sequence[str]) -> torch.Tensor:
        """uint8 [N, 3, H, W] from seeds 0 to N-1."""
        engine = Engine(StableDiffusionAdapter(self.pipeline(), "training"), EngineSettings(channels_last=False))
        solver, scale = self.process.sampler, self.phase.sample_guidance
        requests = [
            Request(prompt=caption, seed=seed, solver=solver, steps=_SAMPLE_STEPS, guidance_scale=scale)
            for seed, caption in enumerate(captions)
        ]
        pixels = np.stack([np.asarray(result.image) for result in engine.generate(requests)])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)

    def pipeline(self) -> StableDiffusionPipeline:
        """The networks as they are, in diffusers' pipeline."""
        return StableDiffusionPipeline(
            vae=self.space.autoencoder,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=self.process.solver,
            safety_checker=None,
            feature_extractor=None,
            image_encoder=None,
            requires_safety_checker=False,
        )

    def export(self, folder: Path) -> None:
        """Write `unet`, `text_encoder` and `scheduler` (the tokenizer is there since the start)."""
        save_component(self.unet, folder / "unet")
        save_component(self.text_encoder, folder / "text_encoder")
        save_component(self.process.solver, folder / "scheduler")
