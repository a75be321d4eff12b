"""What Ray Serve runs on each of its replicas."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from headrace.errors import ServiceError
from headrace.service.cluster.messages import Order, Report, Said
from headrace.service.cluster.replica import Replica
from headrace.service.cluster.scaling import CLEAR
from headrace.service.service import Service


class RayReplica:
    """A `Replica` that knows its id on Ray Serve; calls that are not meant for it are answered with None."""

    def __init__(self, make_service: Callable[[], Service]) -> None:
        from ray import serve

        self._id = str(serve.get_replica_context().replica_id.unique_id)
        self._replica = Replica(self._id, make_service())

    async def name(self) -> str:
        """Its id."""
        return self._id

    async def report(self, seen: int, patience_s: float, replica: str) -> Report | None:
        """As `Replica.report`."""
        return await self._replica.report(seen, patience_s) if replica == self._id else None

    async def make(self, order: Order, replica: str) -> AsyncGenerator[Said | None, None]:
        """As `Replica.make`."""
        if replica != self._id:
            yield None
            return
        stream = self._replica.make(order)
        try:
            async for said in stream:
                yield said
        finally:
            await stream.aclose()

    def check_health(self) -> None:
        """Asked by Ray Serve, which replaces a replica where this raises."""
        if self._replica.ended:
            raise ServiceError(self._replica.ended)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Asked by Ray Serve for `ClearTimePolicy`."""
        return {CLEAR: self._replica.clear_s()}

    def __del__(self) -> None:
        replica = getattr(self, "_replica", None)
        if replica is not None:
            replica.stop()
