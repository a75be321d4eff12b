"""The engine as a service: a process of its own, supervised, that takes wishes and tells what becomes of them.

Who asks for pictures knows `Service` and the nouns beside it, and neither torch nor the engine.
"""

from headrace.service.events import Accepted, Event, Failed, Finished, Preview, Timing
from headrace.service.model_card import AccelerationCard, ModelCard
from headrace.service.service import Service
from headrace.service.settings import ServiceSettings
from headrace.service.status import ChunkSeen, Load, RoundSeen, RowSeen, Status
from headrace.service.supervisor import Supervisor
from headrace.service.wish import Wish

__all__ = [
    "AccelerationCard",
    "Accepted",
    "ChunkSeen",
    "Event",
    "Failed",
    "Finished",
    "Load",
    "ModelCard",
    "Preview",
    "RoundSeen",
    "RowSeen",
    "Service",
    "ServiceSettings",
    "Status",
    "Supervisor",
    "Timing",
    "Wish",
]
