"""The networks that a text-to-image phase trains: anew or from trained ones, of single pictures or of groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from headrace.errors import ModelError, RecipeError
from headrace.techniques.fusebatch.text_network import FuseBatchUNet2DConditionModel
from headrace.training.tables.text_to_image import TextToImagePhase


def build_networks(phase: TextToImagePhase, tokenizer: CLIPTokenizer) -> tuple[CLIPTextModel, Any]:
    """The text encoder and the U-Net that the recipe describes. Raises `RecipeError` when a library refuses them."""
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
    except (TypeError, ValueError) as error:
        raise RecipeError(
            f"the networks of the recipe are refused: {error}", "See diffusers and transformers"
        ) from None
    return text_encoder, unet if phase.fusion == 1 else _of_groups(phase, unet.config)


def continued(phase: TextToImagePhase, unet: Any) -> Any:
    """The network of the recipe's K that goes on from a trained U-Net, of single pictures or of some factors.

    That of K itself where the trained one has it, else a new one that starts from that of single pictures. Raises
    `RecipeError` where it has neither, or cannot be fused.
    """
    if not isinstance(unet, FuseBatchUNet2DConditionModel):
        return unet if phase.fusion == 1 else _started(phase, unet)
    if phase.fusion in unet.factors and phase.fusion > 1:
        if unet.config.kernel_size != phase.fusion_kernel:
            raise RecipeError(
                f"fusion_kernel is {phase.fusion_kernel}, and the networks of initial = {phase.initial!r} have "
                f"{unet.config.kernel_size}",
                f"Set fusion_kernel = {unet.config.kernel_size}",
            )
        made = _of_groups(phase, unet.config["unet"])
        made.networks[str(phase.fusion)] = unet.network_for(phase.fusion)
        return made
    if 1 not in unet.factors:
        raise RecipeError(
            f"initial = {phase.initial!r} has networks for K = {', '.join(map(str, unet.factors))}, and neither for "
            f"fusion = {phase.fusion} nor for single pictures, to start from",
            "Name a model of single pictures",
        )
    first = unet.network_for(1)
    return first if phase.fusion == 1 else _started(phase, first)


def _started(phase: TextToImagePhase, unet: Any) -> FuseBatchUNet2DConditionModel:
    made = _of_groups(phase, unet.config)
    made.initialise_from(unet)
    return made


def _of_groups(phase: TextToImagePhase, config: Mapping[str, Any]) -> FuseBatchUNet2DConditionModel:
    """The recipe's network of groups, anew, for this configuration of a U-Net of single pictures."""
    settings = {name: value for name, value in config.items() if not name.startswith("_")}
    try:
        return FuseBatchUNet2DConditionModel([phase.fusion], settings, phase.fusion_kernel)
    except ModelError as error:
        raise RecipeError(f"the network of the recipe cannot be fused: {error.problem}", error.remedy) from None
