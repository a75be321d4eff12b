"""Accelerations from files. The engine knows no technique: each kind of file has a loader that is registered for it.

Packages register theirs as entry points of the group "headrace.accelerations": the name is the artefact's kind with
hyphens for spaces, the value a function that takes a path and returns an `Acceleration`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from headrace.artefact import kind_of
from headrace.errors import ArtefactError, ModelError
from headrace.models.joined_cache import JoinedCache
from headrace.models.pipelines.base import Pipeline
from headrace.models.row_cache import RowCache
from headrace.plan.plan import Plan

GROUP = "headrace.accelerations"
Decide = Callable[[Plan], Plan]
Name = TypeVar("Name", str, str | None)


@dataclass(frozen=True)
class Decisions:
    """What an acceleration that is attached says of the requests that it is for.

    Attributes:
        decide: fills decision columns of a plan; None leaves plans as they are.
        defaults: fields that a request takes over where it was made without them.
    """

    decide: Decide | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)


class Acceleration(Protocol):
    """Makes a pipeline faster."""

    @property
    def identity(self) -> str:
        """A digest of what pictures depend on."""
        ...

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Fields that a request takes over where it leaves them open."""
        ...

    def attach(self, pipeline: Pipeline) -> Decide:
        """Returns what decides in the pipeline's plans. Raises `HeadraceError` before any change.

        What it changes of the pipeline is its `row_cache`, or nothing.
        """
        ...


def load_acceleration(path: str | Path) -> Acceleration:
    """What the loader of a file's kind makes of it.

    Raises `ArtefactError` for a file that is no artefact, or of a kind that accelerates nothing.
    """
    kind = kind_of(path)
    loaders = {point.name: point for point in entry_points(group=GROUP)}
    name = kind.replace(" ", "-")
    if name not in loaders:
        known = ", ".join(sorted(loaders)) or "none: install the package again, pip install headrace"
        raise ArtefactError(f"{str(path)!r} is a {kind!r} artefact, which accelerates nothing", f"Kinds: {known}")
    return cast(Acceleration, loaders[name].load()(path))


def attach_all(pipeline: Pipeline, accelerations: Mapping[Name, Acceleration]) -> dict[Name, Decisions]:
    """Attaches several accelerations at once, side by side: each is for the requests that ask for it.

    Each attaches to the pipeline as if it were alone; then their row caches are joined. Raises what `attach` raises,
    and `ModelError` where the pipeline caches blocks already, or where the blocks of two of them overlap; the pipeline
    is then as it was.
    """
    if pipeline.row_cache is not None:
        raise ModelError(f"{pipeline.name} caches blocks already", "Remove the other cache first")
    attached: dict[Name, tuple[Decide, RowCache | None]] = {}
    for name, acceleration in accelerations.items():
        decide = acceleration.attach(pipeline)
        attached[name] = decide, _taken_off(pipeline)
    caches = [cache for _, cache in attached.values() if cache is not None]
    joined = JoinedCache(pipeline.network, caches) if caches else None
    pipeline.row_cache = joined
    return {
        name: Decisions(_placed(decide, joined, cache), accelerations[name].defaults)
        for name, (decide, cache) in attached.items()
    }


def _taken_off(pipeline: Pipeline) -> RowCache | None:
    cache, pipeline.row_cache = pipeline.row_cache, None
    if cache is not None:
        cache.remove()
    return cache


def _placed(decide: Decide, joined: JoinedCache | None, cache: RowCache | None) -> Decide:
    """`decide`, whose plans have the columns of its own cache, for the caches joined."""
    if joined is None or cache is None:
        return decide
    return lambda plan: joined.placed(decide(plan), cache)
