"""What goes between the process that answers HTTP and its replicas."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.errors import HeadraceError, ServiceError
from headrace.service.events import Event
from headrace.service.model_card import ModelCard
from headrace.service.status import RoundSeen, Status
from headrace.service.wish import Wish


class ReplicaLostError(ServiceError):
    """A replica is there no more, or cannot be reached; what it had is to be done by another."""


class ReplicaRetiredError(ReplicaLostError):
    """A replica takes no more orders, as there was one too many."""


@dataclass(frozen=True)
class Order:
    """A wish for one replica, under the ticket that the whole cluster knows it by."""

    ticket: str
    wish: Wish


@dataclass(frozen=True)
class Said:
    """An event of an order.

    Attributes:
        event: with the cluster's ticket, and times of the replica's clock.
        refused: whether the replica took nothing; `event` is then a `Failed` with the reason.
    """

    event: Event
    refused: bool = False


@dataclass(frozen=True)
class Report:
    """How one replica is.

    Attributes:
        replica: its id.
        clock: `time.monotonic` of the replica as it reported.
        status: of its engine.
        model: None until it is loaded.
        orders: tickets that it has, so that what was sent since the report is known.
        row_s: seconds a plan row took lately, of all that ran together; 0 where none ran yet.
        rounds: since those that the asker had seen, with the cluster's tickets; `seen` counts all up to the last one.
        error: why its engine does not start.
    """

    replica: str
    clock: float
    status: Status
    model: ModelCard | None = None
    orders: frozenset[str] = frozenset()
    row_s: float = 0.0
    rounds: tuple[RoundSeen, ...] = ()
    seen: int = 0
    error: HeadraceError | None = None
