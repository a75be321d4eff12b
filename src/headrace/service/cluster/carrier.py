"""A wish's way from replica to replica until it is done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import aclosing, suppress

from headrace.errors import BusyError, DeadlineError, HeadraceError, PoisonError, ServiceError, StoppingError
from headrace.service.cluster.claim import Claim
from headrace.service.cluster.fleet import Fleet
from headrace.service.cluster.messages import Order, ReplicaLostError, ReplicaRetiredError
from headrace.service.events import Event, Failed

_OF_THE_WISH = (PoisonError, DeadlineError)  # failures that another replica would not mend
MOST_LOST = 4  # replicas that may be lost with a wish before that is the wish's doing
_GRACE_S = 1.0  # after a deadline
_PAUSE_S = 0.5  # before replicas that refused are asked again


class Carrier:
    """Gives claims to replicas, in turn while they are lost or refuse.

    `place` chooses a replica other than those barred and notes it, or says None; `hear` takes events and says whether
    the claim goes on; `lost` is told of replicas that broke.
    """

    def __init__(
        self,
        fleet: Fleet,
        place: Callable[[Claim, Collection[str]], str | None],
        hear: Callable[[Claim, Event], bool],
        lost: Callable[[str, ReplicaLostError], None],
    ) -> None:
        self._fleet, self._place, self._hear, self._lost = fleet, place, hear, lost
        self._stirred = asyncio.Event()

    def stir(self) -> None:
        """Something is known that was not: who waits for a replica looks again. On the loop."""
        self._stirred.set()
        self._stirred = asyncio.Event()

    async def carry(self, claim: Claim) -> None:
        """Until it is done, failed or cancelled. The claim may have a replica already.

        Replicas keep its deadline; should none that has it answer, it fails here a little later.
        """
        timeout_s = claim.wish.timeout_s
        left = None if timeout_s is None else claim.submitted + timeout_s + _GRACE_S - time.monotonic()
        try:
            async with asyncio.timeout(left):
                await self._carry(claim)
        except TimeoutError:
            error = DeadlineError("the picture was not done within its time", 0.0, "Give it more")
            self._hear(claim, Failed(claim.ticket, error))

    async def _carry(self, claim: Claim) -> None:
        refusals: dict[str, HeadraceError] = {}
        while True:
            name = claim.replica or self._place(claim, set(refusals))
            if name is None:
                final = self._final(claim, refusals)
                if final is not None:
                    self._hear(claim, Failed(claim.ticket, final))
                    return
                refusals.clear()
                await self._wait()
                continue
            try:
                refusal = await self._ask(name, claim)
            except ReplicaLostError as error:
                self._lost(name, error)
                claim.lost += claim.accepted and not isinstance(error, ReplicaRetiredError)
                refusal = error
            if refusal is None:
                return
            claim.replica = None
            refusals[name] = refusal
            if claim.lost >= MOST_LOST:
                problem = f"{claim.lost} replicas were lost while they made this picture"
                self._hear(claim, Failed(claim.ticket, PoisonError(problem, "Ask for a smaller one")))
                return

    async def _ask(self, name: str, claim: Claim) -> HeadraceError | None:
        """Has a replica make it. None: it is over. Otherwise why this replica did not take it, or gave it up."""
        order = Order(claim.ticket, claim.wish_now(time.monotonic()))
        async with aclosing(self._fleet.make(name, order)) as stream:
            async for said in stream:
                error = said.event.error if isinstance(said.event, Failed) else None
                if isinstance(error, ServiceError) and (said.refused or not isinstance(error, _OF_THE_WISH)):
                    return error
                if not self._hear(claim, said.event):
                    return None
        return StoppingError(f"replica {name} said no more of it")

    def _final(self, claim: Claim, refusals: dict[str, HeadraceError]) -> HeadraceError | None:
        """What a claim that no replica takes fails with; None: it waits.

        What was accepted is no more refused: it goes on in what is left of its time.
        """
        busy = [error for error in refusals.values() if isinstance(error, BusyError)]
        late = [error for error in refusals.values() if isinstance(error, DeadlineError)]
        if claim.accepted:
            claim.patient = claim.patient or bool(late)
            return None
        if refusals and len(busy) + len(late) == len(refusals):
            if late:
                return min(late, key=lambda error: error.expected_s)
            return min(busy, key=lambda error: error.retry_after_s)
        return None

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stirred.wait(), _PAUSE_S)
