"""Lanes: where decoder chunks run while denoising rows run."""

from __future__ import annotations

import torch

from headrace.engine.lanes.interleaved import InterleavedLane
from headrace.engine.lanes.lane import Lane
from headrace.engine.settings import EngineSettings

__all__ = ["Lane", "lane_of"]


def lane_of(device: torch.device, settings: EngineSettings) -> Lane:
    """The lane that the settings name. Raises `HeadraceError` for one that this device does not have."""
    return InterleavedLane(device)
