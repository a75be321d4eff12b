"""Data sets too large for the repository: where they lie, or a skipped test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def data_file(name: str) -> Path:
    """The file in the folder $HEADRACE_DATA, or else in `../shared/data` beside the repository; skips where missing."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("HEADRACE_DATA", beside)) / name
    if not path.exists():
        pytest.skip(f"{path} is not there; set HEADRACE_DATA to the folder that holds {name}")
    return path
