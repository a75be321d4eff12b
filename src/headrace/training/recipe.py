"""A training recipe: a TOML file, checked key by key before anything is loaded."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from headrace.errors import RecipeError
from headrace.training.tables.autoencoder import AutoencoderPhase
from headrace.training.tables.classifier import ClassifierPhase
from headrace.training.tables.data import DataTable
from headrace.training.tables.diffusion import DiffusionPhase
from headrace.training.tables.loop import LoopTable
from headrace.training.tables.low_resolution import LowResolutionTable
from headrace.training.tables.processes import EDMTable, FlowMatchingTable, VariancePreservingTable
from headrace.training.tables.table import Table
from headrace.training.tables.text_to_image import TextToImagePhase

Phase = Annotated[
    AutoencoderPhase | TextToImagePhase | DiffusionPhase | ClassifierPhase, Field(discriminator="objective")
]


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
    key = _key(first["loc"])
    last = key.rpartition(".")[2]
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(last, valid_keys(), n=1, cutoff=0.4)
        return RecipeError(f"unknown key {key!r}", f"Did you mean {near[0]!r}?" if near else "Remove it")
    if first["type"] == "missing":
        return RecipeError(f"key {key!r} is missing", "Add it to the recipe")
    if first["type"] == "union_tag_not_found":
        return RecipeError(f"key {key}.{_discriminator(first)} is missing", "Add it to the recipe")
    if first["type"] == "union_tag_invalid":
        known, tag = first["ctx"]["expected_tags"], first["ctx"]["tag"]
        return RecipeError(f"{key}.{_discriminator(first)} = {tag!r} is not known", f"There are: {known}")
    value = repr(first.get("input"))
    shown = value if len(value) <= 60 else value[:57] + "..."
    return RecipeError(f"{key} = {shown} is not accepted: {first['msg']}", "Change the value")


def _key(location: Sequence[Any]) -> str:
    """Where the error is, without what pydantic puts behind a phase and a process: which kind of table it is."""
    parts = [str(part) for part in location]
    if parts[0] == "phases":
        del parts[2:3]
        if parts[2:3] == ["process"]:
            del parts[3:4]
    return ".".join(parts)


def _discriminator(first: Any) -> str:
    """The key that says which kind of table it is."""
    return str(first["ctx"]["discriminator"]).strip("'")


def valid_keys() -> list[str]:
    """Every key that some table of a recipe takes."""
    phases = (AutoencoderPhase, TextToImagePhase, DiffusionPhase, ClassifierPhase)
    processes = (VariancePreservingTable, EDMTable, FlowMatchingTable)
    tables: list[type[BaseModel]] = [Recipe, DataTable, LoopTable, LowResolutionTable, *phases, *processes]
    return sorted({name for table in tables for name in table.model_fields})
