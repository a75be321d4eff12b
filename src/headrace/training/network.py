"""The network that a diffusion phase trains: of single pictures, of groups or of stages, anew or from a trained one."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
    """The recipe's network, from nothing or from its `initial`: with stages, of groups where `fusion` is more than 1.

    Raises `RecipeError` as `build_unet` does, and for a U-Net that cannot be fused or divided into stages.
    """
    vanilla = build_unet(phase, shape)
    settings = {key: value for key, value in vanilla.config.items() if not key.startswith("_")}
    single, network = vanilla, vanilla
    if phase.stages is not None:
        try:
            staged = _stage_settings(phase.stages, settings)
            single = network = MultistageUNet2DModel(**staged)
        except (ArtefactError, ModelError, PlanError) as error:
            raise RecipeError(f"the stages of the recipe do not fit: {error.problem}", error.remedy) from None
        settings = {"network": MultistageUNet2DModel.__name__, **staged}
    try:
        if phase.fusion > 1:
            network = _fused(phase, settings)
        _start(network, (single, vanilla), phase)
    except ModelError as error:
        change = "fused" if phase.fusion > 1 else "started"
        raise RecipeError(f"the network of the recipe cannot be {change}: {error.problem}", error.remedy) from None
    if phase.classes is not None and phase.class_dropout > 0:
        network.register_to_config(null_class=phase.classes)
    return network


def _fused(phase: DiffusionPhase, settings: dict[str, Any]) -> ModelMixin:
    if phase.fusion_kind == "patch-grid":
        return PatchGridUNet2DModel(unet=settings)
    return FuseBatchUNet2DModel(factors=[phase.fusion], kernel_size=phase.fusion_kernel, unet=settings)


def _stage_settings(stages: StagesTable, settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "unet": settings,
        "decoders": [one if isinstance(one, int) else list(one) for one in stages.decoders],
        "boundaries": list(stage_boundaries(stages)),
        "attention": None if stages.attention is None else list(stages.attention),
        "shared": stages.shared,
    }


def stage_boundaries(stages: StagesTable) -> tuple[float, ...]:
    """Those of the recipe, or of the artefact that it names. Raises `ArtefactError` where that cannot be read."""
    if stages.boundaries is not None:
        return stages.boundaries
    return StagesArtefact.load(Path(stages.artefact or "").expanduser()).boundaries


def _start(network: ModelMixin, simpler: Sequence[ModelMixin], phase: DiffusionPhase) -> None:
    """Takes the weights of the recipe's `initial`: of the same kind of network, or of one of the simpler ones.

    These are networks of single pictures, the nearest first, that `network` can start from.
    """
    if phase.initial is None:
        return
    model = Path(phase.initial).expanduser()
    kind = _kind(model)
    source = next((one for one in simpler if type(one).__name__ == kind), network)
    start_from(source, model)
    if source is not network:
        network.initialise_from(source)


def _kind(model: Path) -> str | None:
    """Class of the network of a model folder or of a network's own; None where the folder does not say."""
    folder = model / "unet" if (model / "unet").is_dir() else model
    try:
        return str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"])
    except (OSError, ValueError, KeyError):
        return None  # the error that names what is wrong comes with the weights


def build_unet(phase: DiffusionPhase, shape: Shape) -> UNet2DModel:
    """The recipe's U-Net of single pictures, made for the shape of the data where the recipe does not say.

    Where labels are left out at times it has one class more, which stands for that.

    Raises `RecipeError` when diffusers refuses it, or when it is made for data of another shape.
    """
    labels = None if phase.classes is None else phase.classes + (phase.class_dropout > 0)
    needed: dict[str, int | None] = {
        "sample_size": shape.size,
        "in_channels": shape.channels,
        "out_channels": shape.channels,
    }
    needed["num_class_embeds"] = labels
    try:
        unet = UNet2DModel(**{**needed, **phase.network})
    except (TypeError, ValueError, NotImplementedError) as error:
        raise RecipeError(f"the networks of the recipe are refused: {error}", "See diffusers' UNet2DModel") from None
    for key, value in needed.items():
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
