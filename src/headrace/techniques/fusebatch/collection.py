"""Networks of several fusion factors, each trained by itself, as one model that may choose per row (section 3.3)."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

import headrace
from headrace.errors import ModelError, UnsupportedModelError
from headrace.models.pipelines.folder import ModelFolder
from headrace.models.pipelines.folder import inspect as look_at
from headrace.models.pipelines.parts import load_part, quiet, stands_for
from headrace.techniques.fusebatch import schedule
from headrace.techniques.fusebatch.model import FuseBatchModel, check_factors
from headrace.techniques.fusebatch.network import FuseBatchUNet2DModel
from headrace.techniques.fusebatch.same_parts import first_difference, read, same_part, solver_difference
from headrace.techniques.fusebatch.text_network import FuseBatchUNet2DConditionModel

_PART = "unet"
_FIRST = "networks.1."
# What each network becomes in a collection: those of one image, and collections themselves.
_KINDS: dict[str, type[FuseBatchModel]] = {
    name: kind
    for kind in (FuseBatchUNet2DModel, FuseBatchUNet2DConditionModel)
    for name in (kind.stands_for, kind.__name__)
}


@dataclass(frozen=True)
class _Member:
    """A model of the collection: its folder, its network without weights, and the factors that it has."""

    folder: ModelFolder
    kind: type[FuseBatchModel]
    network: Any
    factors: tuple[int, ...]

    @property
    def unet(self) -> dict[str, Any]:
        """The whole configuration of the network of one image, with `network` where it is no class of diffusers."""
        config = self.network.config
        if isinstance(self.network, FuseBatchModel) and "network" in config["unet"]:
            return _plain(config["unet"])
        one = self.kind.of_one if isinstance(self.network, FuseBatchModel) else type(self.network)
        settings = inspect.signature(one.__init__).parameters
        own = _plain({name: config[name] for name in settings if name != "self"})
        return own if one is self.kind.of_one else {"network": one.__name__, **own}

    @property
    def null_class(self) -> int | None:
        """The label that stands for no class, where the network has one."""
        label: int | None = self.network.config.get("null_class")
        return label

    @property
    def kernel_size(self) -> int | None:
        """Of the fusion; None where there is none."""
        return None if self.factors == (1,) else int(self.network.config.get("kernel_size", 3))


def collect(sources: Sequence[str | Path], policy: str | None = None, untrained: Sequence[int] = ()) -> FuseBatchModel:
    """One network with the weights of all: models with a U-Net of one image (K = 1) or a `FuseBatchModel`.

    `untrained` adds networks for factors that no model was trained for. They start from that of K = 1, which is among
    the models (`FuseBatchModel.initialise_from`), and make no picture before they are trained.

    `policy`, as `schedule.parse` reads it: which factor evaluates which share of the rows where a request says nothing;
    None is the paper's, or K = 1 throughout where some are untrained.
    Raises `ModelError`, before any network's weights are read, where the models are not of one kind: other networks,
    another configuration of the network of one image or of the solver, another autoencoder or text encoder, a factor
    twice; and for a network that cannot be fused; `PlanError` for a policy that cannot be read or is of other factors.
    Weights keep the type that those of the first model have.
    """
    members = [_member(look_at(source)) for source in sources]
    if not members:
        raise ModelError("no model was given to put together", "Name one for each fusion factor")
    _check_alike(members)
    trained = [factor for member in members for factor in member.factors]
    factors = sorted([*trained, *untrained])
    check_factors(factors)
    if untrained and 1 not in trained:
        raise ModelError(
            f"a network for K = {untrained[0]} starts from that of K = 1, and no model has one", "Give it as well"
        )
    if policy is None and untrained:
        policy = "1"
    kernels = {member.kernel_size for member in members} - {None}
    shares = None if policy is None else [list(pair) for pair in schedule.parse(policy, factors).shares]
    kernel = kernels.pop() if kernels else 3
    kind, unet = members[0].kind, members[0].unet
    with torch.device("meta"):
        network = kind(factors, unet, kernel, shares)
    weights = _weights(members)
    if untrained:
        anew = kind(list(untrained), unet, kernel)
        anew.initialise_from(_of_one(kind, unet, weights))
        # Not diffusers' own `to`, which warns of layers to keep in float32, and here are none.
        weights |= torch.nn.Module.to(anew, next(iter(weights.values())).dtype).state_dict()
    network.load_state_dict(weights, assign=True)
    if members[0].null_class is not None:
        network.register_to_config(null_class=members[0].null_class)
    return network


def write(network: FuseBatchModel, like: str | Path, destination: Path) -> None:
    """A folder of the model `like`, with this network in its place. The destination is an empty folder."""
    source = look_at(like)
    for part in source.parts:
        if part != _PART:
            shutil.copytree(source.path / part, destination / part)
    network.save_pretrained(destination / _PART)
    index = read(source.path / "model_index.json")
    index[_PART] = [type(network).__module__, type(network).__name__]
    (destination / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _member(folder: ModelFolder) -> _Member:
    name = folder.parts.get(_PART, "")
    kind = _KINDS.get(stands_for(name))
    own = getattr(headrace, name, None) if name not in _KINDS else None
    if kind is None or hasattr(own, "factors"):
        raise UnsupportedModelError(
            f"{folder.name} denoises with a {folder.parts.get(_PART) or 'network that is no U-Net'}, which has no "
            "place among networks of several fusion factors",
            f"Name models of a {' or a '.join(_KINDS)}",
        )
    config = read(folder.path / _PART / "config.json")
    with torch.device("meta"), quiet():
        one_image = own or kind.of_one
        network = (kind if name == kind.__name__ else one_image).from_config(config)
    return _Member(folder, kind, network, getattr(network, "factors", (1,)))


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
        kinds = {(one.kind, one.folder.class_name, frozenset(one.folder.parts)) for one in (first, member)}
        if len(kinds) > 1:
            raise ModelError(
                f"{name} is a {member.folder.class_name} and {first.folder.name} a {first.folder.class_name}, or their "
                "parts differ",
                "Put together models of one kind",
            )
        one, other = (made.unet | {"null_class": made.null_class} for made in (first, member))
        _same(first_difference(one, other), f"the networks of {first.folder.name} and {name}")
        _check_parts(first.folder, member.folder)
    kernels = {member.kernel_size for member in members} - {None}
    if len(kernels) > 1:
        raise ModelError(
            f"the fusion kernels of the networks differ: {sorted(filter(None, kernels))}", "Use networks of one"
        )


def _check_parts(first: ModelFolder, other: ModelFolder) -> None:
    """The rest of the folders: the solver's configuration, autoencoder, text encoder and tokenizer."""
    for part in first.parts:
        pair = first.path / part, other.path / part
        if part == "scheduler":
            _same(solver_difference(*pair), f"the solvers of {first.name} and {other.name}")
        elif part != _PART and not same_part(*pair):
            raise ModelError(
                f"the part {part!r} of {first.name} is not that of {other.name}",
                "Put together models that were trained with one and the same, unchanged (train_text_encoder = false)",
            )


def _same(difference: str | None, what: str) -> None:
    if difference is not None:
        raise ModelError(f"{what} differ in {difference}", "Put together models of one configuration")


def _weights(members: Sequence[_Member]) -> dict[str, torch.Tensor]:
    """The state of the network of all, read through the checks of loading."""
    state: dict[str, torch.Tensor] = {}
    dtype = _stored_dtype(members[0].folder)
    for member in members:
        prefix = "" if isinstance(member.network, FuseBatchModel) else _FIRST
        network = load_part(member.folder, _PART, dtype)
        state |= {prefix + name: tensor for name, tensor in network.state_dict().items()}
    return state


def _of_one(kind: type[FuseBatchModel], unet: dict[str, Any], weights: dict[str, torch.Tensor]) -> Any:
    """The network of one image among the weights of a collection."""
    with torch.device("meta"):
        network = kind.made(unet, 1, 3)
    own = {name.removeprefix(_FIRST): tensor for name, tensor in weights.items() if name.startswith(_FIRST)}
    network.load_state_dict(own, assign=True)
    return network


def _stored_dtype(folder: ModelFolder) -> torch.dtype:
    file = next((folder.path / _PART).glob("*.safetensors"))
    with safe_open(file, framework="pt") as opened:
        dtype: torch.dtype = opened.get_tensor(next(iter(opened.keys()))).dtype
    return dtype


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """As a file would give it: lists in place of tuples."""
    content: dict[str, Any] = json.loads(json.dumps(settings))
    return content
