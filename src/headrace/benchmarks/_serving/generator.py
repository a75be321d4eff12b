"""The load generator: sends every request when its time has come, whatever became of those before it (open loop).

`python -m headrace.benchmarks._serving.generator` reads a `Job` as JSON from standard input and writes one line of
JSON for every outcome, in the order in which requests end: a process of its own, so that neither measures the other.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import httpx

from headrace.benchmarks._serving.ask import Ask
from headrace.benchmarks._serving.exchange import exchange
from headrace.benchmarks._serving.outcome import Outcome
from headrace.errors import HeadraceError

GIVE_UP_S = 600.0
_CONNECT_S = 10.0

Tell = Callable[[int, Outcome], None]


@dataclass(frozen=True)
class Target:
    """A server.

    Attributes:
        url: where it is, without `/v1`.
        api_key_env: name of the environment variable that holds its key; None for no key.

    Raises `HeadraceError` for what is no URL.
    """

    url: str
    api_key_env: str | None = None

    def __post_init__(self) -> None:
        try:
            parsed = httpx.URL(self.url)
        except httpx.InvalidURL:
            parsed = httpx.URL()
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise HeadraceError(f"{self.url!r} is no server's address", "Write, for example, http://127.0.0.1:8000")

    @property
    def local(self) -> bool:
        """Whether it is this machine, where no proxy belongs between."""
        return httpx.URL(self.url).host in ("127.0.0.1", "::1", "localhost")

    def headers(self) -> dict[str, str]:
        """What every request carries. Raises `HeadraceError` where the variable is not set."""
        if self.api_key_env is None:
            return {}
        key = os.environ.get(self.api_key_env)
        if not key:
            raise HeadraceError(
                f"the environment variable {self.api_key_env} is not set", "Put the server's API key into it"
            )
        return {"Authorization": f"Bearer {key}"}


@dataclass(frozen=True)
class Job:
    """A load for a server.

    Attributes:
        give_up_s: seconds after which a request that was sent counts as never answered.
        keep: whether pictures are part of the outcomes.
    """

    target: Target
    asks: Sequence[Ask] = field(default_factory=list)
    give_up_s: float = GIVE_UP_S
    keep: bool = False

    def to_json(self) -> str:
        """For a process of its own."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The inverse of `to_json`."""
        values = json.loads(text)
        values["target"] = Target(**values["target"])
        values["asks"] = [Ask(**one) for one in values["asks"]]
        return cls(**values)


async def play(job: Job, tell: Tell | None = None) -> list[Outcome]:
    """Sends the requests of a job, each over a connection of its own.

    A connection that was kept could be closed by the server just as it is used again, and the request would seem lost.
    `tell(number, outcome)` hears of each as it ends. Raises `HeadraceError` where the API key is not there.
    """
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    # How long an answer may take is the exchange's matter.
    timeout = httpx.Timeout(None, connect=_CONNECT_S)
    headers = job.target.headers()
    async with httpx.AsyncClient(
        base_url=job.target.url, headers=headers, limits=limits, timeout=timeout, trust_env=not job.target.local
    ) as client:
        began = time.monotonic()

        def now() -> float:
            return time.monotonic() - began

        async def one(number: int, ask: Ask) -> Outcome:
            outcome = await exchange(client, ask, now, job.give_up_s, job.keep)
            if tell is not None:
                tell(number, outcome)
            return outcome

        sent = []
        for number, ask in sorted(enumerate(job.asks), key=lambda pair: pair[1].at):
            # Also where it is late already: whoever was sent gets the chance to be written.
            await asyncio.sleep(max(0.0, ask.at - now()))
            sent.append((number, asyncio.create_task(one(number, ask))))
        outcomes = {number: await task for number, task in sent}
    return [outcomes[number] for number in range(len(job.asks))]


def main() -> None:
    """A job from standard input; a line `[number, outcome]` to standard output whenever a request ends."""

    def tell(number: int, outcome: Outcome) -> None:
        print(json.dumps([number, outcome.to_dict()]), flush=True)

    asyncio.run(play(Job.from_json(sys.stdin.read()), tell))


if __name__ == "__main__":
    main()
