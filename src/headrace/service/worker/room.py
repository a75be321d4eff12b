"""Everything that serving needs, made of settings: model, engine, policy, and the card of what is served."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from headrace.engine import Engine, EngineSettings
from headrace.models.pipelines.base import Pipeline
from headrace.models.pipelines.loading import load
from headrace.service.model_card import ModelCard
from headrace.service.settings import ServiceSettings
from headrace.service.worker.card import model_card
from headrace.serving.latency_table import LatencyTable
from headrace.serving.policies.continuous import Continuous
from headrace.serving.state import Policy


@dataclass(frozen=True)
class Room:
    """What an engine's process serves with. `table` is what the policy and the forecast go by, where there is one."""

    engine: Engine
    policy: Policy
    card: ModelCard
    table: LatencyTable | None

    @property
    def policy_in_words(self) -> str:
        """Its name, and what it goes by."""
        return self.policy.name


def room_of(settings: ServiceSettings, table: LatencyTable | None = None) -> Room:
    """Loads the model of the settings. `table` is what an earlier process measured.

    Raises `ModelError`, `ArtefactError`, `ServingError`.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    pipeline = load(settings.model, device=settings.device, dtype=getattr(torch, settings.dtype))
    return room_around(pipeline, settings, table)


def room_around(pipeline: Pipeline, settings: ServiceSettings, table: LatencyTable | None = None) -> Room:
    """The same for a pipeline that is loaded already."""
    engine = Engine(
        pipeline,
        EngineSettings(slots=settings.slots, memory_bytes=settings.memory_bytes, max_rows=settings.max_rows),
    )
    return Room(engine, Continuous(), model_card(pipeline, settings), table)
