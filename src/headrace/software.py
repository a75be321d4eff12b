"""Which Headrace this is."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def software() -> str:
    """The version that is installed, "unknown" where the sources run alone. A look-up costs as much as a small PNG."""
    try:
        return version("headrace")
    except PackageNotFoundError:
        return "unknown"
