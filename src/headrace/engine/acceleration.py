"""Accelerations from files. The engine knows no technique: each kind of file has a loader that is registered for it.

Packages register theirs as entry points of the group "headrace.accelerations": the name is the artefact's kind with
hyphens for spaces, the value a function that takes a path and returns an `Acceleration`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, cast

from headrace.artefact import kind_of
from headrace.errors import ArtefactError
from headrace.models.pipelines.base import Pipeline
from headrace.plan.plan import Plan

GROUP = "headrace.accelerations"


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

    def attach(self, pipeline: Pipeline) -> Callable[[Plan], Plan]:
        """Changes the pipeline, and returns what decides in its plans. Raises `HeadraceError` before any change."""
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
