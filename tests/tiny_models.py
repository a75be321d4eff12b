"""Whole diffusers model folders with tiny random networks: one for every family that has an adapter.

The classes and the configurations' shape are those of the real models, only narrower. Everything is seeded, so a
folder is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiTPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    LDMPipeline,
    PixArtAlphaPipeline,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from tiny_networks import (
    TEXT_WIDTH,
    as_vocabulary_files,
    autoencoder,
    clip_config,
    clip_text_model,
    clip_tokenizer,
    dit_transformer,
    pixart_transformer,
    pixel_unet,
    quantised_autoencoder,
    t5_text_model,
    t5_tokenizer,
    text_unet,
)

CLASSES = 5
STABLE_DIFFUSION_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def build(kind: str, folder: Path) -> Path:
    """Writes the tiny model `kind` (a key of `KINDS`) into `folder` and returns it."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(sum(kind.encode()))
        pipeline = KINDS[kind]()
        pipeline.save_pretrained(folder, safe_serialization=True)
    if kind == "sd1":
        as_vocabulary_files(folder / "tokenizer")
    return folder


# A random network leaves the noise where it is, and the solver divides by sqrt(alpha_T): with the usual beta_end of
# 0.02 that is 160 and every pixel would be black or white.
PIXEL_BETAS = {"beta_start": 0.0001, "beta_end": 0.002}


def ddpm() -> DDPMPipeline:
    return DDPMPipeline(pixel_unet(), DDPMScheduler(**PIXEL_BETAS))


def ddim() -> DDIMPipeline:
    return DDIMPipeline(pixel_unet(), DDIMScheduler(**PIXEL_BETAS))


def ddpm_classes() -> DDPMPipeline:
    return DDPMPipeline(pixel_unet(num_class_embeds=CLASSES), DDPMScheduler(**PIXEL_BETAS))


def ldm() -> LDMPipeline:
    unet = pixel_unet(sample_size=8, in_channels=3, out_channels=3)
    return LDMPipeline(
        quantised_autoencoder(), unet, DDIMScheduler(beta_start=0.0015, beta_end=0.0195, clip_sample=False)
    )


def dit() -> DiTPipeline:
    return DiTPipeline(dit_transformer(), autoencoder(), DDIMScheduler(clip_sample=False))


def _stable_diffusion(
    unet: UNet2DConditionModel, scheduler: object, tokenizer: CLIPTokenizer
) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        autoencoder(), clip_text_model(), tokenizer, unet, scheduler, None, None, requires_safety_checker=False
    )


def sd1() -> StableDiffusionPipeline:
    scheduler = PNDMScheduler(**STABLE_DIFFUSION_BETAS, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1)
    return _stable_diffusion(text_unet(), scheduler, clip_tokenizer())


def sd2() -> StableDiffusionPipeline:
    unet = text_unet(use_linear_projection=True, attention_head_dim=(2, 4))
    scheduler = DDIMScheduler(
        **STABLE_DIFFUSION_BETAS,
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    return _stable_diffusion(unet, scheduler, clip_tokenizer(pad_token="!"))


def lcm() -> LatentConsistencyModelPipeline:
    return LatentConsistencyModelPipeline(
        autoencoder(),
        clip_text_model(),
        clip_tokenizer(),
        text_unet(time_cond_proj_dim=32),
        LCMScheduler(**STABLE_DIFFUSION_BETAS, clip_sample=False, set_alpha_to_one=True, original_inference_steps=50),
        None,
        None,
        requires_safety_checker=False,
    )


def sdxl() -> StableDiffusionXLPipeline:
    unet = text_unet(
        cross_attention_dim=2 * TEXT_WIDTH,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=TEXT_WIDTH + 6 * 8,
    )
    return StableDiffusionXLPipeline(
        autoencoder(scaling_factor=0.13025),
        clip_text_model(),
        CLIPTextModelWithProjection(clip_config(hidden_act="gelu")).eval(),
        clip_tokenizer(),
        clip_tokenizer(pad_token="!"),
        unet,
        EulerDiscreteScheduler(**STABLE_DIFFUSION_BETAS, timestep_spacing="leading", steps_offset=1),
        add_watermarker=False,
    )


def pixart(sample_size: int = 8) -> PixArtAlphaPipeline:
    return PixArtAlphaPipeline(
        t5_tokenizer(), t5_text_model(), autoencoder(), pixart_transformer(sample_size), DPMSolverMultistepScheduler()
    )


def pixart_micro_conditions() -> PixArtAlphaPipeline:
    return pixart(sample_size=128)


KINDS: dict[str, Callable[[], object]] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "ddpm-classes": ddpm_classes,
    "ldm": ldm,
    "dit": dit,
    "sd1": sd1,
    "sd2": sd2,
    "lcm": lcm,
    "sdxl": sdxl,
    "pixart": pixart,
    "pixart-128": pixart_micro_conditions,
}
