"""Autoencoders as the frozen ends of latent diffusion: loaded, and asked for latents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, VQModel

from headrace.errors import RecipeError, TrainingError
from headrace.techniques.fusebatch.autoencoder import FuseBatchAutoencoderKL
from headrace.training.data import to_signed

_KINDS = {
    "AutoencoderKL": AutoencoderKL,
    "VQModel": VQModel,
    "FuseBatchAutoencoderKL": FuseBatchAutoencoderKL,
}
_TOGETHER = 64
_PARTS = ("vae", "vqvae")


def load_autoencoder(folder: Path) -> AutoencoderKL:
    """The autoencoder that an earlier phase exported. Raises `TrainingError` when there is none."""
    if not (folder / "vae" / "config.json").exists():
        raise TrainingError(f"no autoencoder stands in {str(folder)!r}", "Run the autoencoder's phase first")
    return read_autoencoder(folder)


def read_autoencoder(folder: Path) -> Any:
    """The autoencoder (KL, fused KL or `VQModel`), float32, of a diffusers model folder or of a folder of its own.

    Raises `RecipeError` where there is none, or one that no pipeline here decodes with.
    """
    part = next((folder / name for name in _PARTS if (folder / name).is_dir()), folder)
    try:
        config = json.loads((part / "config.json").read_text(encoding="utf-8"))
        kind = _KINDS[config["_class_name"]]
        autoencoder = kind.from_pretrained(part, torch_dtype=torch.float32, local_files_only=True, use_safetensors=True)
    except KeyError:
        raise RecipeError(f"{str(part)!r} holds no {' or '.join(_KINDS)}", "Name another autoencoder") from None
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"no autoencoder can be read from {str(part)!r}: {error}", "Name a diffusers folder"
        ) from None
    if config.get("shift_factor") or config.get("latents_mean"):
        raise RecipeError(
            f"the autoencoder of {str(part)!r} shifts its latents, which LDMPipeline does not",
            "Use one with a scaling_factor alone",
        )
    return autoencoder


def pictures_of(autoencoder: Any) -> int:
    """How many pictures one latent is of: 1, or the K of a fused autoencoder."""
    return int(getattr(autoencoder, "pictures", 1))


def together(autoencoder: Any, most: int) -> int:
    """Pictures that are computed at a time: about `most`, in whole groups."""
    pictures = pictures_of(autoencoder)
    return max(1, most // pictures) * pictures


@torch.no_grad()
def encode_moments(
    autoencoder: Any, images: torch.Tensor, mirrored: bool = False
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Mean and deviation of the latents, unscaled: float32 [N, C, h, w] each for uint8 [N, 3, H, W].

    Of a fused autoencoder: [N / K, C, h, w], where N is a multiple of K and K pictures stand together. A
    `VQModel` has no deviation; its latents are those before quantisation. `mirrored`: of the mirror images.
    """
    means, deviations = [], []
    for part in images.split(together(autoencoder, _TOGETHER)):
        signed = to_signed(part.to(autoencoder.device))
        encoded = autoencoder.encode(signed.flip(-1) if mirrored else signed)
        if hasattr(encoded, "latents"):
            means.append(encoded.latents.float())
        else:
            means.append(encoded.latent_dist.mean.float())
            deviations.append(encoded.latent_dist.std.float())
    return torch.cat(means), torch.cat(deviations) if deviations else None
