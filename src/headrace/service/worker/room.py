"""Everything that serving needs, made of settings: model, engine, policy, and the card of what is served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from headrace.engine import Engine, EngineSettings
from headrace.engine.acceleration import Acceleration, attach_all, load_acceleration
from headrace.evaluation.machine import machine_name
from headrace.models.pipelines.base import Pipeline
from headrace.models.pipelines.loading import load
from headrace.service.model_card import ModelCard
from headrace.service.settings import ServiceSettings
from headrace.service.worker.acceleration_cards import acceleration_cards
from headrace.service.worker.card import model_card
from headrace.service.worker.measuring import quick_table
from headrace.serving.latency_table import LatencyTable
from headrace.serving.paper import shipped_table
from headrace.serving.profile import identity
from headrace.serving.scheduler import make_policy
from headrace.serving.skip_window import SkipWindow
from headrace.serving.state import Policy
from headrace.serving.table_check import check_table
from headrace.techniques.guidance.artefact import GuidanceArtefact


@dataclass(frozen=True)
class Room:
    """What an engine's process serves with.

    `table` is what the policy and the forecast go by, where there is one; `policy_in_words` says which and why.
    """

    engine: Engine
    policy: Policy
    card: ModelCard
    table: LatencyTable | None
    policy_in_words: str


def room_of(settings: ServiceSettings, table: LatencyTable | None = None) -> Room:
    """Loads the model of the settings. `table` is what an earlier process measured.

    Raises `ModelError`, `ArtefactError`, `ServingError`.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    given = None if settings.latency_table is None else LatencyTable.load(settings.latency_table)
    window = _window(settings)
    accelerations = {name: load_acceleration(path) for name, path in settings.accelerations.items()}
    pipeline = load(settings.model, device=settings.device, dtype=getattr(torch, settings.dtype))
    return room_around(pipeline, settings, given or table, window, accelerations)


def room_around(
    pipeline: Pipeline,
    settings: ServiceSettings,
    table: LatencyTable | None = None,
    window: SkipWindow | None = None,
    accelerations: Mapping[str, Acceleration] | None = None,
) -> Room:
    """The same for a pipeline that is loaded already. Without a table, one is measured, where that is fast.

    That is done, and the table is checked, before accelerations change the pipeline.
    """
    accelerations = accelerations or {}
    if settings.latency_table is not None and table is not None:
        check_table(table, identity(pipeline, machine_name(pipeline.device)))
    source = "a latency table" if settings.latency_table is not None else "a small latency table, measured at the start"
    table = table or quick_table(pipeline, settings.measure_s)
    policy, words = _policy(settings, table, window, source)
    engine = Engine(
        pipeline,
        EngineSettings(
            slots=settings.slots,
            memory_bytes=settings.memory_bytes,
            max_rows=settings.max_rows,
            lane="interleaved" if table is None else table.lane,
        ),
        accelerations=attach_all(pipeline, accelerations),
    )
    return Room(engine, policy, model_card(pipeline, settings, acceleration_cards(accelerations)), table, words)


def _policy(
    settings: ServiceSettings, table: LatencyTable | None, window: SkipWindow | None, source: str
) -> tuple[Policy, str]:
    """The policy, and what it is in words. Only the synergetic one looks at its table."""
    name = settings.policy
    if name == "auto":
        name = "continuous" if table is None else "synergetic"
    options = dict(settings.policy_options)
    if name == "synergetic":
        options.setdefault("max_rows", settings.max_rows)
    policy = make_policy(name, table or shipped_table(), window, **options)
    if name != "synergetic":
        return policy, name if settings.policy != "auto" else f"{name} (no latency table)"
    return policy, f"{name}, by {source if table is not None else 'a latency table that is not of this machine'}"


def _window(settings: ServiceSettings) -> SkipWindow | None:
    if settings.skip_window is None:
        return None
    found = GuidanceArtefact.load(settings.skip_window)
    return SkipWindow(found.starts, found.shares, found.similarity)
