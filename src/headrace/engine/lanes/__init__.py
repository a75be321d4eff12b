"""Lanes: where decoder chunks run while denoising rows run."""

from __future__ import annotations

import torch

from headrace.engine.lanes.interleaved import InterleavedLane
from headrace.engine.lanes.lane import Lane
from headrace.engine.lanes.streams import StreamsLane
from headrace.engine.lanes.threads import ThreadsLane
from headrace.engine.settings import EngineSettings, side_threads
from headrace.errors import HeadraceError

__all__ = ["Lane", "lane_of"]


def lane_of(device: torch.device, settings: EngineSettings) -> Lane:
    """The lane that the settings name. Raises `HeadraceError` for one that this device does not have."""
    name = settings.lane
    if name == "streams":
        _require(device, "cuda", name)
        return StreamsLane(device)
    if name == "threads":
        _require(device, "cpu", name)
        return ThreadsLane(device, side_threads(settings))
    return InterleavedLane(device)


def _require(device: torch.device, kind: str, lane: str) -> None:
    if device.type != kind:
        raise HeadraceError(
            f"lane is {lane!r} and the model is on {device.type}, where there is none of the kind",
            f"It is for {kind}; use 'interleaved'",
        )
