"""The way of a call to the replica that it names. Imported where Ray is, and by Ray alone."""

from __future__ import annotations

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica


class ToReplica(RequestRouter):
    """A request router of Ray Serve that decides nothing: calls name their replica as the keyword `replica`.

    Where that one is there no more, any other is given the call, and says that it is not meant. (A request router is
    copied by value to where handles are, so that it could not share what `ClusterService` knows of its replicas.)
    """

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """One rank: the replica that is named."""
        if pending_request is None:
            return [candidate_replicas]
        pending_request.routing_context.should_backoff = True
        name = pending_request.kwargs.get("replica")
        named = [one for one in candidate_replicas if one.replica_id.unique_id == name]
        return [named or candidate_replicas]
