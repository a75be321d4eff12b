"""Whether models that are to be put together have the same solver, autoencoder, text encoder and tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors.torch import load_file

from headrace.models.pipelines.parts import quiet

# What says how a configuration came to be, or in which type weights lie, not what it is; dropout is of training alone.
_NOT_COMPARED = frozenset(
    ("_class_name", "_diffusers_version", "_name_or_path", "dropout", "dtype", "torch_dtype", "transformers_version")
)
# Of a tokenizer; versions of transformers write some or others of them.
_VOCABULARY = ("vocab.json", "merges.txt", "tokenizer.json", "spiece.model", "tokenizer_config.json")


def first_difference(one: dict[str, Any], two: dict[str, Any]) -> str | None:
    """The first key of both configurations that they differ in, with both values; None where there is none."""
    for key in sorted((one.keys() & two.keys()) - _NOT_COMPARED):
        if one[key] != two[key]:
            return f"{key}: {one[key]!r} and {two[key]!r}"
    return None


def solver_difference(one: Path, two: Path) -> str | None:
    """`first_difference` of the solvers of two folders, in what both classes know, defaults filled in."""
    configs = []
    for folder in (one, two):
        config = read(folder / "scheduler_config.json")
        with quiet():
            configs.append(dict(getattr(diffusers, config["_class_name"]).from_config(config).config))
    return first_difference(*configs)


def read(config: Path) -> dict[str, Any]:
    """A configuration file."""
    content: dict[str, Any] = json.loads(config.read_text(encoding="utf-8"))
    return content


def same_part(one: Path, two: Path) -> bool:
    """Whether two folders hold one and the same network or tokenizer.

    Weights may be of different types, in files of other names: those in the wider one, rounded, are then the others.
    A configuration that lacks a key, as older versions wrote them, has the default of its network.
    """
    configs = [folder / "config.json" for folder in (one, two)]
    if all(config.is_file() for config in configs):
        return first_difference(*map(read, configs)) is None and _same_weights(one, two)
    shared = [name for name in _VOCABULARY if (one / name).is_file() and (two / name).is_file()]
    return bool(shared) and all((one / name).read_bytes() == (two / name).read_bytes() for name in shared)


def _same_weights(one: Path, two: Path) -> bool:
    first, second = (_weights(folder) for folder in (one, two))
    return first.keys() == second.keys() and all(_same(first[name], second[name]) for name in first)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def _same(one: torch.Tensor, two: torch.Tensor) -> bool:
    if one.dtype != two.dtype:
        narrow = min(one.dtype, two.dtype, key=lambda dtype: dtype.itemsize)
        one, two = one.to(narrow), two.to(narrow)
    return torch.equal(one, two)
