"""The network that a diffusion phase trains: of single pictures, of groups or of stages, anew or from a trained one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diffusers import ModelMixin, UNet2DModel

from headrace.errors import ArtefactError, ModelError, PlanError, RecipeError
from headrace.techniques.fusebatch.network import FuseBatchUNet2DModel
from headrace.techniques.fusebatch.patch_grid import PatchGridUNet2DModel
from headrace.techniques.multistage.artefact import StagesArtefact
from headrace.techniques.multistage.network import MultistageUNet2DModel
from headrace.training.initial import start_from
from headrace.training.spaces.space import Shape
from headrace.training.tables.diffusion import DiffusionPhase
from headrace.training.tables.stages import StagesTable


def build_network(phase: DiffusionPhase, shape: Shape) -> ModelMixin:
    """The recipe's network, from nothing or from its `initial`: of groups where `fusion` is more than 1, or of stages.

    Raises `RecipeError` as `build_unet` does, and for a U-Net that cannot be fused or divided into stages.
    """
    vanilla = build_unet(phase, shape)
    settings = {key: value for key, value in vanilla.config.items() if not key.startswith("_")}
    if phase.stages is not None:
        try:
            return _started(_staged(phase.stages, settings), vanilla, phase)
        except (ArtefactError, ModelError, PlanError) as error:
            raise RecipeError(f"the stages of the recipe do not fit: {error.problem}", error.remedy) from None
    if phase.fusion == 1:
        return _started(vanilla, vanilla, phase)
    try:
        return _started(_fused(phase, settings), vanilla, phase)
    except ModelError as error:
        raise RecipeError(f"the network of the recipe cannot be fused: {error.problem}", error.remedy) from None


def _fused(phase: DiffusionPhase, settings: dict[str, Any]) -> ModelMixin:
    if phase.fusion_kind == "patch-grid":
        return PatchGridUNet2DModel(unet=settings)
    return FuseBatchUNet2DModel(factors=[phase.fusion], kernel_size=phase.fusion_kernel, unet=settings)


def _staged(stages: StagesTable, settings: dict[str, Any]) -> ModelMixin:
    return MultistageUNet2DModel(
        unet=settings,
        decoders=[one if isinstance(one, int) else list(one) for one in stages.decoders],
        boundaries=list(_boundaries(stages)),
        attention=None if stages.attention is None else list(stages.attention),
        shared=stages.shared,
    )


def _boundaries(stages: StagesTable) -> tuple[float, ...]:
    if stages.boundaries is not None:
        return stages.boundaries
    return StagesArtefact.load(Path(stages.artefact or "").expanduser()).boundaries


def _started(network: ModelMixin, vanilla: UNet2DModel, phase: DiffusionPhase) -> ModelMixin:
    """With the weights of the recipe's `initial`: of the same kind of network, or of one that takes single pictures."""
    if phase.initial is None:
        return network
    model = Path(phase.initial).expanduser()
    if isinstance(network, UNet2DModel) or _kind(model) != UNet2DModel.__name__:
        start_from(network, model)
    else:
        start_from(vanilla, model)
        network.initialise_from(vanilla)
    return network


def _kind(model: Path) -> str | None:
    """Class of the network of a model folder or of a network's own; None where the folder does not say."""
    folder = model / "unet" if (model / "unet").is_dir() else model
    try:
        return str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"])
    except (OSError, ValueError, KeyError):
        return None  # the error that names what is wrong comes with the weights


def build_unet(phase: DiffusionPhase, shape: Shape) -> UNet2DModel:
    """The recipe's U-Net of single pictures, made for the shape of the data where the recipe does not say.

    Raises `RecipeError` when diffusers refuses it, or when it is made for data of another shape.
    """
    needed = {"sample_size": shape.size, "in_channels": shape.channels, "out_channels": shape.channels}
    try:
        unet = UNet2DModel(**{**needed, "num_class_embeds": phase.classes, **phase.network})
    except (TypeError, ValueError, NotImplementedError) as error:
        raise RecipeError(f"the networks of the recipe are refused: {error}", "See diffusers' UNet2DModel") from None
    for key, value in {**needed, "num_class_embeds": phase.classes}.items():
        if unet.config[key] != value:
            raise RecipeError(
                f"network.{key} is {unet.config[key]}, and the data of this phase has {value}",
                "Leave it out, or look at data.size, classes and the autoencoder",
            )
    if unet.config.time_embedding_type != "positional":
        # Fourier ones divide the output by the timestep, which may be 0 here; learned ones know whole timesteps only.
        raise RecipeError(
            f"network.time_embedding_type is {unet.config.time_embedding_type!r}, which suits no process here",
            "Leave it at positional",
        )
    return unet
