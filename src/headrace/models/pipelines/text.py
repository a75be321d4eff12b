"""Text-to-image families: Stable Diffusion 1.x and 2.x, SDXL and PixArt-alpha."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers.utils.import_utils import is_bs4_available, is_ftfy_available
from typing_extensions import override

from headrace.models.conditioning import Conditioning
from headrace.models.denoiser import Rows
from headrace.models.pipelines.autoencoded import AutoencodedPipeline
from headrace.models.pipelines.base import LatentShape, require_prompt, require_settings
from headrace.models.pipelines.pixel import downsampling
from headrace.models.pipelines.prompt_cache import Encoded, PromptCache
from headrace.models.pipelines.told import ToldPipeline
from headrace.request import Request

_TEXT_INPUTS = ("encoder_hidden_states", "timestep_cond")
# Inputs of a U-Net that none of the families here gives it.
_EXTRA_INPUTS = ("class_embed_type", "num_class_embeds", "encoder_hid_dim_type")


class TextPipeline(AutoencodedPipeline):
    """What the text-to-image families share: prompts encoded in batches and cached, an AutoencoderKL to decode with.

    Subclasses say which network denoises and what one prompt is encoded to.
    """

    _needed_settings: ClassVar[Mapping[str, object]] = {}

    def __init__(self, components: Any, name: str) -> None:
        super().__init__(components, name)
        self._prompts = PromptCache(self._encode_prompts)

    def _encode_prompts(self, prompts: Sequence[str]) -> Mapping[str, torch.Tensor]:
        """Prompts -> name -> [N, ...] tensors on the network's device, from the diffusers pipeline's encoder."""
        embeddings = self.components.encode_prompt(list(prompts), self.device, 1, False)[0]
        return {"encoder_hidden_states": embeddings}

    @override
    def encode(self, requests: Sequence[Request]) -> list[Conditioning]:
        wanted: list[str] = []
        for request in requests:
            wanted.append(request.prompt or "")
            negative = self._negative_prompt(request)
            if self.guided and negative is not None:
                wanted.append(negative)
        encoded = self._prompts.encode(wanted)
        return [self._conditioning(request, encoded) for request in requests]

    def _conditioning(self, request: Request, encoded: Mapping[str, Encoded]) -> Conditioning:
        conditions = self._micro_conditions(request)
        positive = encoded[request.prompt or ""]
        if not self.guided:
            return Conditioning({**positive, **conditions})
        text = self._negative_prompt(request)
        zeros = {name: torch.zeros_like(tensor) for name, tensor in positive.items()} if text is None else {}
        return Conditioning({**positive, **conditions}, {**(zeros if text is None else encoded[text]), **conditions})

    def _negative_prompt(self, request: Request) -> str | None:
        """What guidance moves away from; None for an embedding of zeros."""
        return request.negative_prompt or ""

    @property
    def _guidance_width(self) -> int | None:
        """Width of the guidance embedding of a network distilled for guidance (Meng et al. 2023); else None."""
        config: Any = self.network.config
        return config.get("time_cond_proj_dim")

    @property
    @override
    def guided(self) -> bool:
        return self._guidance_width is None

    def _micro_conditions(self, request: Request) -> dict[str, torch.Tensor]:
        """What the network is told besides the prompt: a distilled network's guidance scale, in subclasses the size."""
        if self._guidance_width is None:
            return {}
        scale = self.default_guidance if request.guidance_scale is None else request.guidance_scale
        embed = self.components.get_guidance_scale_embedding
        embedding = embed(torch.tensor([scale - 1.0]), embedding_dim=self._guidance_width)[0]
        return {"timestep_cond": embedding.to(self.device, self.dtype)}

    @override
    def check_model(self) -> None:
        channels = self.components.vae.config.latent_channels
        require_settings(
            self.name, self.network, ("sample_size",), _EXTRA_INPUTS, {"in_channels": channels, **self._needed_settings}
        )

    @override
    def check_conditioning(self, request: Request) -> None:
        require_prompt(request, self.name)

    @property
    @override
    def autoencoder(self) -> Any:
        return self.components.vae

    @property
    @override
    def size_multiple(self) -> int:
        return self.factor

    @property
    @override
    def latent_multiple(self) -> int:
        # A U-Net takes other sizes too, and makes its skips fit; small rows are spared the seams.
        return downsampling(self.network)


class StableDiffusionPipeline(TextPipeline, ToldPipeline):
    """Stable Diffusion 1.x and 2.x (Rombach et al. 2022).

    A network with `time_cond_proj_dim` is distilled for guidance: it is told the scale and evaluates one branch. Of one
    that fuses rows (FuseBatch) the K of a group have a prompt each; the branches of guidance are groups of their own.
    """

    family = "stable diffusion"
    networks = frozenset({"UNet2DConditionModel"})
    default_guidance = 7.5
    _needed_settings: ClassVar[Mapping[str, object]] = {"addition_embed_type": None}

    @property
    @override
    def network(self) -> torch.nn.Module:
        return self.components.unet

    @override
    def evaluate(self, rows: Rows) -> torch.Tensor:
        text = {name: rows.conditioning[name] for name in _TEXT_INPUTS if name in rows.conditioning}
        given = {**text, **self.told(rows)}
        return self.components.unet(rows.sample, rows.timestep, return_dict=False, **given)[0]


class LatentConsistencyPipeline(StableDiffusionPipeline):
    """Latent consistency models distilled from Stable Diffusion (Luo et al. 2023): another default scale."""

    family = "latent consistency"
    default_guidance = 8.5


class StableDiffusionXLPipeline(TextPipeline):
    """Stable Diffusion XL (Podell et al. 2023): two text encoders, a pooled embedding and the size as conditions."""

    family = "SDXL"
    networks = frozenset({"UNet2DConditionModel"})
    default_guidance = 5.0
    _needed_settings: ClassVar[Mapping[str, object]] = {"addition_embed_type": "text_time"}

    @property
    @override
    def network(self) -> torch.nn.Module:
        return self.components.unet

    def _encode_prompts(self, prompts: Sequence[str]) -> Mapping[str, torch.Tensor]:
        embeddings, _, pooled, _ = self.components.encode_prompt(
            prompt=list(prompts), device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return {"encoder_hidden_states": embeddings, "text_embeds": pooled}

    def _negative_prompt(self, request: Request) -> str | None:
        if request.negative_prompt is None and self.components.config.force_zeros_for_empty_prompt:
            return None
        return super()._negative_prompt(request)

    def _micro_conditions(self, request: Request) -> dict[str, torch.Tensor]:
        shape = self.latent_shape(*self.size(request))
        return {**super()._micro_conditions(request), **self.size_conditions(shape)}

    @override
    def size_conditions(self, shape: LatentShape) -> dict[str, torch.Tensor]:
        height, width = (side * self.factor for side in shape[1:])
        # (original size, top-left crop, target size), as in section 2.2 of the SDXL report.
        sizes = torch.tensor([height, width, 0, 0, height, width], device=self.device, dtype=self.dtype)
        return {"time_ids": sizes}

    @override
    def evaluate(self, rows: Rows) -> torch.Tensor:
        conditioning = rows.conditioning
        return self.components.unet(
            rows.sample,
            rows.timestep,
            encoder_hidden_states=conditioning["encoder_hidden_states"],
            timestep_cond=conditioning.get("timestep_cond"),
            added_cond_kwargs={name: conditioning[name] for name in ("text_embeds", "time_ids")},
            return_dict=False,
        )[0]

    @override
    def ready_decoder(self) -> None:
        vae = self.components.vae
        if vae.dtype == torch.float16 and vae.config.force_upcast:
            vae.to(torch.float32)  # this autoencoder overflows in half precision; done once, it stays so

    @override
    def unscaled(self, latents: torch.Tensor) -> torch.Tensor:
        config = self.components.vae.config
        mean, std = config.get("latents_mean"), config.get("latents_std")
        if mean is None or std is None:
            return super().unscaled(latents)
        shape = (1, latents.shape[1], 1, 1)
        return latents * latents.new_tensor(std).view(shape) / config.scaling_factor + latents.new_tensor(mean).view(
            shape
        )


class PixArtPipeline(TextPipeline):
    """PixArt-alpha (Chen et al. 2023): a transformer on latents, T5 text with its attention mask.

    A size is run as asked; diffusers' resolution binning (to the nearest trained aspect ratio) is left to the caller.
    """

    family = "PixArt-alpha"
    networks = frozenset({"PixArtTransformer2DModel", "Transformer2DModel"})
    default_guidance = 4.5

    @property
    @override
    def network(self) -> torch.nn.Module:
        return self.components.transformer

    @property
    @override
    def size_multiple(self) -> int:
        return self.factor * self.latent_multiple

    @property
    @override
    def latent_multiple(self) -> int:
        return int(self.components.transformer.config.patch_size)

    def _encode_prompts(self, prompts: Sequence[str]) -> Mapping[str, torch.Tensor]:
        # diffusers cleans captions with two optional libraries, and only lowers and strips them where one is missing.
        clean = bool(is_bs4_available() and is_ftfy_available())  # type: ignore[no-untyped-call]
        embeddings, mask, _, _ = self.components.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, device=self.device, clean_caption=clean
        )
        return {"encoder_hidden_states": embeddings, "encoder_attention_mask": mask}

    def _micro_conditions(self, request: Request) -> dict[str, torch.Tensor]:
        return self.size_conditions(self.latent_shape(*self.size(request)))

    @override
    def size_conditions(self, shape: LatentShape) -> dict[str, torch.Tensor]:
        if not self.components.transformer.use_additional_conditions:
            return {}
        height, width = (side * self.factor for side in shape[1:])
        resolution = torch.tensor([height, width], device=self.device, dtype=self.dtype)
        aspect_ratio = torch.tensor([height / width], device=self.device, dtype=self.dtype)
        return {"resolution": resolution, "aspect_ratio": aspect_ratio}

    @override
    def evaluate(self, rows: Rows) -> torch.Tensor:
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
