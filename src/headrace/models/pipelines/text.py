"""Text-to-image families: Stable Diffusion 1.x and 2.x, SDXL and PixArt-alpha."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from headrace.models.conditioning import Conditioning
from headrace.models.denoiser import Rows
from headrace.models.pipelines.base import LatentShape, Pipeline, require_prompt, to_pixels
from headrace.models.pipelines.pixel import square
from headrace.models.pipelines.prompt_cache import Encoded, PromptCache
from headrace.request import Request


class TextPipeline(Pipeline):
    """What the text-to-image families share: prompts encoded in batches and cached, an AutoencoderKL to decode with.

    Subclasses say which network denoises and what one prompt is encoded to.
    """

    def __init__(self, components: Any, name: str) -> None:
        super().__init__(components, name)
        self._prompts = PromptCache(self._encode_prompts)

    def _encode_prompts(self, prompts: Sequence[str]) -> Mapping[str, torch.Tensor]:
        """Prompts -> name -> [N, ...] tensors on the network's device. Subclasses call the diffusers pipeline's encoder."""
        embeddings = self.components.encode_prompt(list(prompts), self.device, 1, False)[0]
        return {"encoder_hidden_states": embeddings}

    def encode(self, requests: Sequence[Request]) -> list[Conditioning]:
        wanted: list[str] = []
        for request in requests:
            wanted.append(request.prompt or "")
            wanted.append(request.negative_prompt or "")
        encoded = self._prompts.encode(wanted)
        return [self._conditioning(request, encoded) for request in requests]

    def _conditioning(self, request: Request, encoded: Mapping[str, Encoded]) -> Conditioning:
        positive = {**encoded[request.prompt or ""], **self._micro_conditions(request)}
        if self.guidance(request) == 1.0:
            return Conditioning(positive)
        return Conditioning(positive, {**self._negative(request, encoded), **self._micro_conditions(request)})

    def _negative(self, request: Request, encoded: Mapping[str, Encoded]) -> Encoded:
        return encoded[request.negative_prompt or ""]

    def _micro_conditions(self, request: Request) -> dict[str, torch.Tensor]:
        """What the network is told besides the prompt (sizes, a distilled guidance scale)."""
        return {}

    def check_conditioning(self, request: Request) -> None:
        require_prompt(request, self.name)

    @property
    def _factor(self) -> int:
        return int(self.components.vae_scale_factor)

    @property
    def default_size(self) -> tuple[int, int]:
        height, width = square(self.network.config.sample_size)  # type: ignore[union-attr,arg-type]
        return height * self._factor, width * self._factor

    @property
    def size_multiple(self) -> int:
        return self._factor

    def latent_shape(self, height: int, width: int) -> LatentShape:
        channels = int(self.network.config.in_channels)  # type: ignore[union-attr,arg-type]
        return channels, height // self._factor, width // self._factor

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        vae = self.components.vae
        mean, std = getattr(vae.config, "latents_mean", None), getattr(vae.config, "latents_std", None)
        scaled = latents / vae.config.scaling_factor
        if mean is not None and std is not None:
            shape = (1, latents.shape[1], 1, 1)
            scaled = scaled * latents.new_tensor(std).view(shape) + latents.new_tensor(mean).view(shape)
        return to_pixels(vae.decode(scaled.to(vae.dtype), return_dict=False)[0])


class StableDiffusionPipeline(TextPipeline):
    """Stable Diffusion 1.x and 2.x (Rombach et al. 2022), and latent consistency models distilled from it.

    A network with `time_cond_proj_dim` is distilled for guidance: it is told the scale and evaluates one branch.
    """

    family = "stable diffusion"
    default_guidance = 7.5

    @property
    def network(self) -> torch.nn.Module:
        return self.components.unet

    @property
    def _guidance_width(self) -> int | None:
        return self.components.unet.config.time_cond_proj_dim

    @property
    def guided(self) -> bool:
        return self._guidance_width is None

    def _micro_conditions(self, request: Request) -> dict[str, torch.Tensor]:
        if self._guidance_width is None:
            return {}
        scale = self.default_guidance if request.guidance_scale is None else request.guidance_scale
        embed = self.components.get_guidance_scale_embedding
        embedding = embed(torch.tensor([scale - 1.0]), embedding_dim=self._guidance_width)[0]
        return {"timestep_cond": embedding.to(self.device, self.dtype)}

    def denoise(self, rows: Rows) -> torch.Tensor:
        return self.components.unet(
            rows.sample,
            rows.timestep,
            encoder_hidden_states=rows.conditioning["encoder_hidden_states"],
            timestep_cond=rows.conditioning.get("timestep_cond"),
            return_dict=False,
        )[0]


class StableDiffusionXLPipeline(TextPipeline):
    """Stable Diffusion XL (Podell et al. 2023): two text encoders, a pooled embedding and the size as conditions."""

    family = "SDXL"
    default_guidance = 5.0

    @property
    def network(self) -> torch.nn.Module:
        return self.components.unet

    def _encode_prompts(self, prompts: Sequence[str]) -> Mapping[str, torch.Tensor]:
        embeddings, _, pooled, _ = self.components.encode_prompt(
            prompt=list(prompts), device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return {"encoder_hidden_states": embeddings, "text_embeds": pooled}

    def _negative(self, request: Request, encoded: Mapping[str, Encoded]) -> Encoded:
        if request.negative_prompt is None and self.components.config.force_zeros_for_empty_prompt:
            return {name: torch.zeros_like(tensor) for name, tensor in encoded[""].items()}
        return super()._negative(request, encoded)

    def _micro_conditions(self, request: Request) -> dict[str, torch.Tensor]:
        height, width = self.size(request)
        # (original size, top-left crop, target size), as in section 2.2 of the SDXL report.
        return {"time_ids": torch.tensor([height, width, 0, 0, height, width], device=self.device, dtype=self.dtype)}

    def denoise(self, rows: Rows) -> torch.Tensor:
        conditioning = rows.conditioning
        return self.components.unet(
            rows.sample,
            rows.timestep,
            encoder_hidden_states=conditioning["encoder_hidden_states"],
            added_cond_kwargs={name: conditioning[name] for name in ("text_embeds", "time_ids")},
            return_dict=False,
        )[0]

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        vae = self.components.vae
        if vae.dtype == torch.float16 and vae.config.force_upcast:
            vae.to(torch.float32)  # this autoencoder overflows in half precision; done once, it stays so
        return super().decode(latents)


class PixArtPipeline(TextPipeline):
    """PixArt-alpha (Chen et al. 2023): a transformer on latents, T5 text with its attention mask.

    A size is run as asked; diffusers' resolution binning (resize to the nearest trained aspect ratio) is left to the caller.
    """

    family = "PixArt-alpha"
    default_guidance = 4.5

    @property
    def network(self) -> torch.nn.Module:
        return self.components.transformer

    @property
    def size_multiple(self) -> int:
        return self._factor * int(self.components.transformer.config.patch_size)

    def _encode_prompts(self, prompts: Sequence[str]) -> Mapping[str, torch.Tensor]:
        embeddings, mask, _, _ = self.components.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, device=self.device, clean_caption=True
        )
        return {"encoder_hidden_states": embeddings, "encoder_attention_mask": mask}

    def _micro_conditions(self, request: Request) -> dict[str, torch.Tensor]:
        if self.components.transformer.config.sample_size != 128:
            return {}
        height, width = self.size(request)
        resolution = torch.tensor([height, width], device=self.device, dtype=self.dtype)
        return {"resolution": resolution, "aspect_ratio": (resolution[:1] / resolution[1:])}

    def denoise(self, rows: Rows) -> torch.Tensor:
        conditioning, transformer = rows.conditioning, self.components.transformer
        output = transformer(
            rows.sample,
            encoder_hidden_states=conditioning["encoder_hidden_states"],
            encoder_attention_mask=conditioning["encoder_attention_mask"],
            timestep=rows.timestep,
            added_cond_kwargs={name: conditioning.get(name) for name in ("resolution", "aspect_ratio")},
            return_dict=False,
        )[0]
        return output[:, : transformer.config.in_channels]
