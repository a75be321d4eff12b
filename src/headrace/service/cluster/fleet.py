"""Where replicas run, as the cluster's service needs it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from headrace.service.cluster.messages import Order, Report, Said


class Fleet(Protocol):
    """Replicas on Ray Serve, or on anything that can be called. Coroutines run on one event loop."""

    def start(self) -> None:
        """Starts replicas and returns once they can be called, whatever state their engines are in.

        Raises `ServiceError` where there is nothing to run them on.
        """
        ...

    def stop(self) -> None:
        """Ends the replicas and whatever was started for them."""
        ...

    async def replicas(self) -> list[str]:
        """Ids of those that may be given orders, as far as is known: neither lost nor on their way out."""
        ...

    async def report(self, replica: str, seen: int, patience_s: float) -> Report:
        """How a replica is, within `patience_s` seconds, earlier where something happened; `seen` as it said last.

        Raises `ReplicaLostError`, or `ReplicaRetiredError` for one that went as there was one too many.
        """
        ...

    def make(self, replica: str, order: Order) -> AsyncGenerator[Said, None]:
        """Has a replica make a picture; ends after `Finished` or `Failed`. Closed before that, the order is dropped.

        Raises `ReplicaLostError` at any time.
        """
        ...
