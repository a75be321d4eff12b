"""Headrace: the throughput-first stack for diffusion image models."""

from __future__ import annotations

from importlib.metadata import entry_points

# Networks that a model folder names as parts of library "headrace": the name is the class's, the value where it is.
NETWORKS = "headrace.networks"


def __getattr__(name: str) -> object:
    """A registered network class, such as `headrace.FuseBatchUNet2DModel`, imported when it is asked for."""
    for point in entry_points(group=NETWORKS, name=name):
        return point.load()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
