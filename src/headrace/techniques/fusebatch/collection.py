"""Networks of several fusion factors, each trained by itself, as one model that may choose per row (section 3.3)."""

from __future__ import annotations

import filecmp
import inspect
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel
from safetensors import safe_open

from headrace.errors import ModelError, UnsupportedModelError
from headrace.models.pipelines.folder import ModelFolder
from headrace.models.pipelines.folder import inspect as look_at
from headrace.models.pipelines.parts import load_part, quiet
from headrace.techniques.fusebatch import schedule
from headrace.techniques.fusebatch.network import FuseBatchUNet2DModel

_PART = "unet"
# What says how a configuration came to be, not what it is; dropout is of training alone.
_NOT_COMPARED = ("_class_name", "_diffusers_version", "_name_or_path", "dropout")


@dataclass(frozen=True)
class _Member:
    """A model of the collection: its folder, its network without weights, and the factors that it has."""

    folder: ModelFolder
    network: Any
    factors: tuple[int, ...]

    @property
    def unet(self) -> dict[str, Any]:
        """The whole configuration of the network of one image."""
        settings = inspect.signature(UNet2DModel.__init__).parameters
        return _plain({name: self.network.config[name] for name in settings if name != "self"})

    @property
    def kernel_size(self) -> int | None:
        """Of the fusion; None where there is none."""
        return None if self.factors == (1,) else int(self.network.config.get("kernel_size", 3))


def collect(sources: Sequence[str | Path], policy: str | None = None) -> FuseBatchUNet2DModel:
    """One network with the weights of all: models with a `UNet2DModel` (K = 1) or a `FuseBatchUNet2DModel`.

    `policy`, as `schedule.parse` reads it: which factor evaluates which share of the rows where a request says nothing.
    Raises `ModelError`, before any weights are read, where the models are not of one kind: other networks, another
    configuration of the network of one image or of the solver, another autoencoder, a factor twice; `PlanError` for a
    policy that cannot be read or is of other factors. Weights keep the type that those of the first model have.
    """
    members = [_member(look_at(source)) for source in sources]
    if not members:
        raise ModelError("no model was given to put together", "Name one for each fusion factor")
    _check_alike(members)
    factors = sorted(factor for member in members for factor in member.factors)
    kernels = {member.kernel_size for member in members} - {None}
    shares = None if policy is None else [list(pair) for pair in schedule.parse(policy, factors).shares]
    with torch.device("meta"):
        network = FuseBatchUNet2DModel(factors, members[0].unet, kernels.pop() if kernels else 3, shares)
    network.load_state_dict(_weights(members), assign=True)
    return network


def write(network: FuseBatchUNet2DModel, like: str | Path, destination: Path) -> None:
    """A folder of the model `like`, with this network in its place. The destination is an empty folder."""
    source = look_at(like)
    for part in source.parts:
        if part != _PART:
            shutil.copytree(source.path / part, destination / part)
    network.save_pretrained(destination / _PART)
    index = json.loads((source.path / "model_index.json").read_text(encoding="utf-8"))
    index[_PART] = [FuseBatchUNet2DModel.__module__, FuseBatchUNet2DModel.__name__]
    (destination / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _member(folder: ModelFolder) -> _Member:
    kinds: dict[str, Any] = {kind.__name__: kind for kind in (UNet2DModel, FuseBatchUNet2DModel)}
    kind = kinds.get(folder.parts.get(_PART, ""))
    if kind is None:
        raise UnsupportedModelError(
            f"{folder.name} denoises with a {folder.parts.get(_PART) or 'network that is no U-Net'}, which has no "
            "place among networks of several fusion factors",
            f"Name models of a {' or a '.join(kinds)}",
        )
    config = json.loads((folder.path / _PART / "config.json").read_text(encoding="utf-8"))
    with torch.device("meta"), quiet():
        network = kind.from_config(config)
    return _Member(folder, network, getattr(network, "factors", (1,)))


def _check_alike(members: Sequence[_Member]) -> None:
    first = members[0]
    owners: dict[int, str] = {}
    for member in members:
        name = member.folder.name
        for factor in member.factors:
            if factor in owners:
                raise ModelError(
                    f"{owners[factor]} and {name} both have a network for K = {factor}", "Give each factor once"
                )
            owners[factor] = name
        if member.folder.class_name != first.folder.class_name or set(member.folder.parts) != set(first.folder.parts):
            raise ModelError(
                f"{name} is a {member.folder.class_name} and {first.folder.name} a {first.folder.class_name}, or their "
                "parts differ",
                "Put together models of one kind",
            )
        _same(first.unet, member.unet, f"the networks of {first.folder.name} and {name}")
        _check_parts(first.folder, member.folder)
    kernels = {member.kernel_size for member in members} - {None}
    if len(kernels) > 1:
        raise ModelError(
            f"the fusion kernels of the networks differ: {sorted(filter(None, kernels))}", "Use networks of one"
        )


def _check_parts(first: ModelFolder, other: ModelFolder) -> None:
    """The rest of the folders: the solver's configuration, and every file of an autoencoder."""
    for part in first.parts:
        pair = first.path / part, other.path / part
        if part == "scheduler":
            one, two = (json.loads((path / "scheduler_config.json").read_text(encoding="utf-8")) for path in pair)
            _same(one, two, f"the solvers of {first.name} and {other.name}")
        elif part != _PART and not _same_files(*pair):
            raise ModelError(
                f"the part {part!r} of {first.name} is not that of {other.name}",
                "Put together models that were trained on one and the same",
            )


def _same(one: dict[str, Any], two: dict[str, Any], what: str) -> None:
    missing = object()
    for key in sorted({*one, *two}.difference(_NOT_COMPARED)):
        values = one.get(key, missing), two.get(key, missing)
        if values[0] != values[1]:
            shown = " and ".join("not set" if value is missing else repr(value) for value in values)
            raise ModelError(f"{what} differ in {key}: {shown}", "Put together models of one configuration")


def _same_files(one: Path, two: Path) -> bool:
    names = {file.name for file in (*one.iterdir(), *two.iterdir()) if file.suffix in (".json", ".safetensors")}
    _, different, failed = filecmp.cmpfiles(one, two, sorted(names), shallow=False)
    return not different and not failed


def _weights(members: Sequence[_Member]) -> dict[str, torch.Tensor]:
    """The state of the network of all, read through the checks of loading."""
    state: dict[str, torch.Tensor] = {}
    dtype = _stored_dtype(members[0].folder)
    for member in members:
        prefix = "" if isinstance(member.network, FuseBatchUNet2DModel) else "networks.1."
        network = load_part(member.folder, _PART, dtype)
        state |= {prefix + name: tensor for name, tensor in network.state_dict().items()}
    return state


def _stored_dtype(folder: ModelFolder) -> torch.dtype:
    file = next((folder.path / _PART).glob("*.safetensors"))
    with safe_open(file, framework="pt") as opened:
        dtype: torch.dtype = opened.get_tensor(next(iter(opened.keys()))).dtype
    return dtype


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """As a file would give it: lists in place of tuples."""
    content: dict[str, Any] = json.loads(json.dumps(settings))
    return content
