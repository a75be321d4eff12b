"""A training recipe: a TOML file, checked key by key before anything is loaded."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace.errors import RecipeError


class Table(BaseModel):
    """A table of the recipe: unknown keys and wrong types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DataTable(Table):
    """Which pictures are learnt, and at what size."""

    path: str | None = Field(None, description="a parquet file with encoded images, or a folder of images")
    image_column: str = Field("image", description="column of encoded images (PNG, JPEG, ...)")
    caption_column: str = Field("caption", description="column of captions")
    exclude: tuple[str, ...] = Field((), strict=False, description="rows whose caption holds one of these are left out")
    size: int = Field(64, ge=8, le=1024, description="side of the square pictures, pixels")
    limit: int | None = Field(None, ge=1, description="only the first rows, for a trial")


class LoopTable(Table):
    """How long and how fast one phase learns: the same table for every objective."""

    steps: int = Field(ge=1, description="optimiser steps")
    batch_size: int = Field(ge=1, description="pictures a step, on each process")
    learning_rate: float = Field(gt=0, lt=1, description="peak of the schedule")
    final_learning_rate: float = Field(0.0, ge=0, description="where the cosine ends, as a fraction of the peak")
    warmup_steps: int = Field(100, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled decay")
    betas: tuple[float, float] = Field((0.9, 0.99), strict=False, description="AdamW's averaging coefficients")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of the gradient")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="decay a step of the averaged weights; these are exported")
    mixed_precision: Literal["no", "bf16", "fp16"] = Field("bf16", description="autocast type; weights stay float32")
    channels_last: bool = Field(False, description="memory format of the convolutions")
    max_minutes: float | None = Field(None, gt=0, description="ends the phase earlier; the decay follows the clock")
    log_every: int = Field(10, ge=1, description="steps between lines of the log")
    sample_every: int = Field(1000, ge=1, description="steps between sample grids and scores")
    checkpoint_every: int = Field(500, ge=1, description="steps between checkpoints")
    keep_checkpoints: int = Field(2, ge=1, description="older checkpoints are removed")


class AutoencoderPhase(Table):
    """Trains an `AutoencoderKL`, or the decoder alone against a frozen encoder."""

    objective: Literal["autoencoder"]
    loop: LoopTable
    network: dict[str, Any] = Field(default_factory=dict, description="arguments of diffusers' AutoencoderKL")
    train_encoder: bool = Field(True, description="false: continue from the exported model, decoder only")
    gradient_weight: float = Field(0.5, ge=0, description="weight of the loss on spatial differences (thin lines)")
    kl_weight: float = Field(1e-4, ge=0, description="weight of the KL divergence, mean over latent elements")
    latent_noise: float = Field(0.0, ge=0, description="noise added to the latents, in units of their deviation")


class TextToImagePhase(Table):
    """Trains a text encoder and a latent U-Net together, against a frozen autoencoder."""

    objective: Literal["text-to-image"]
    loop: LoopTable
    network: dict[str, Any] = Field(default_factory=dict, description="arguments of diffusers' UNet2DConditionModel")
    text_encoder: dict[str, Any] = Field(default_factory=dict, description="arguments of transformers' CLIPTextConfig")
    solver: dict[str, Any] = Field(default_factory=dict, description="arguments of diffusers' DDIMScheduler")
    vocabulary: int = Field(2048, ge=520, description="entries of the tokenizer, at most")
    max_tokens: int = Field(32, ge=4, le=77, description="length that captions are padded to")
    caption_dropout: float = Field(0.1, ge=0, le=1, description="fraction of captions replaced by the empty one")
    min_snr_gamma: float | None = Field(5.0, gt=0, description="loss weighting of arXiv:2303.09556; none = uniform")
    sample_guidance: float = Field(3.0, ge=1, description="guidance scale of the sample grids")


Phase = Annotated[AutoencoderPhase | TextToImagePhase, Field(discriminator="objective")]


class Recipe(Table):
    """The whole recipe: one data set and the phases that follow each other."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the model and of its folder")
    description: str = Field("", description="what the recipe makes")
    seed: int = Field(0, ge=0, lt=2**31, description="initial weights, data order and noise follow from it")
    data: DataTable = Field(default_factory=lambda: DataTable.model_validate({}))
    phases: dict[str, Phase] = Field(min_length=1, description="run in this order")


def load_recipe(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe in a TOML file, with `key.subkey=value` overrides. Raises `RecipeError` naming the key at fault.

    With `base = "other.toml"` (a path relative to the file) it holds only what differs from that recipe.
    """
    values = _read(path)
    if "base" in values:
        base = _read(path.parent / str(values.pop("base")))
        if "base" in base:
            raise RecipeError(f"the base of {str(path)!r} has a base itself", "Name a recipe that stands alone")
        values = _merged(base, values)
    for override in overrides:
        _apply(values, override)
    return parse_recipe(values)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"there is no recipe at {str(path)!r}", "Give a TOML file, see recipes/") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"the recipe {str(path)!r} is not TOML: {error}", "Mend the line it names") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"the recipe {str(path)!r} cannot be read: {error}", "Give the path of a TOML file") from None


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `changes` in place of its own, table by table."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def parse_recipe(values: Mapping[str, Any]) -> Recipe:
    """The recipe in nested mappings. Raises `RecipeError` naming the key at fault and the nearest valid one."""
    try:
        return Recipe(**values)
    except ValidationError as error:
        raise _recipe_error(error.errors()[0]) from None


def _apply(values: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign or not key.strip():
        raise RecipeError(f"{override!r} is not an override", "Write key.subkey=value, for instance data.size=64")
    *tables, last = key.strip().split(".")
    table = values
    for name in tables:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise RecipeError(f"{key.strip()!r}: {name!r} is a value, not a table", "Name a key that the recipe has")
    table[last] = _toml_value(text.strip())


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _recipe_error(first: Any) -> RecipeError:
    location = [str(part) for part in first["loc"] if part not in _OBJECTIVES]
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(location[-1], valid_keys(), n=1, cutoff=0.4)
        return RecipeError(f"unknown key {key!r}", f"Did you mean {near[0]!r}?" if near else "Remove it")
    if first["type"] == "missing":
        return RecipeError(f"key {key!r} is missing", "Add it to the recipe")
    value = repr(first.get("input"))
    shown = value if len(value) <= 60 else value[:57] + "..."
    return RecipeError(f"{key} = {shown} is not accepted: {first['msg']}", "Change the value")


_OBJECTIVES = {"autoencoder", "text-to-image"}


def valid_keys() -> list[str]:
    """Every key that some table of a recipe takes."""
    tables: list[type[BaseModel]] = [Recipe, DataTable, AutoencoderPhase, TextToImagePhase, LoopTable]
    return sorted({name for table in tables for name in table.model_fields})
