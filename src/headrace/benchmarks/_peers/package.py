"""The optional packages of the peers."""

from __future__ import annotations

import importlib
from types import ModuleType

from headrace.errors import HeadraceError


def imported(name: str) -> ModuleType:
    """The package `name`, imported on first use. Raises `HeadraceError` where it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise HeadraceError(
            f"this comparison needs the package {name.split('.')[0]}, which is not installed",
            "pip install 'headrace[peers]'",
        ) from error
