"""What files of accelerations tell of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from headrace.engine.acceleration import Acceleration
from headrace.service.model_card import AccelerationCard
from headrace.techniques.multistage.acceleration import StagesAcceleration
from headrace.tuning.acceleration import CachedAcceleration, TunedAcceleration


def acceleration_cards(accelerations: Mapping[str, Acceleration]) -> tuple[AccelerationCard, ...]:
    """One of each, in their order."""
    return tuple(_card(name, acceleration) for name, acceleration in accelerations.items())


def _card(name: str, acceleration: Acceleration) -> AccelerationCard:
    plain = AccelerationCard(name, type(acceleration).__name__, defaults=dict(acceleration.defaults))
    if isinstance(acceleration, TunedAcceleration):
        artefact = acceleration.artefact
        return replace(
            plain,
            techniques=artefact.settings.label,
            speedup=artefact.confirmed.speedup.value,
            quality=artefact.confirmed.quality.value,
            metric=artefact.metric,
        )
    if isinstance(acceleration, CachedAcceleration):
        schedule = acceleration.cache.artefact
        return replace(plain, techniques=f"block cache, {schedule.solver_name or schedule.solver} {schedule.steps}")
    if isinstance(acceleration, StagesAcceleration):
        return replace(plain, techniques=f"{acceleration.artefact.stages.count} stages")
    return plain
