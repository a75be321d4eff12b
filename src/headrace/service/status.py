"""How the service is, and what its engine did in each round."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Load:
    """How much there is to do.

    Attributes:
        waiting: wishes without a slot.
        denoising, decoding: wishes in a slot, rows left and only chunks left.
        rows: plan rows that are still to be evaluated, of all wishes.
        clear_s: seconds until all of it should be done.
    """

    waiting: int = 0
    denoising: int = 0
    decoding: int = 0
    rows: int = 0
    clear_s: float = 0.0


@dataclass(frozen=True)
class Status:
    """The service at one moment.

    Attributes:
        state: "starting" (the engine's process loads its model), "ready", "restarting", "draining", "stopped", or
            "failed": its process does not start any more.
        load: what there is to do.
        accepted, finished, failed, cancelled: wishes since the start.
        restarts: times that the engine's process was replaced.
        poisoned: wishes that were failed alone as they crashed the engine.
        max_rows: network rows in one call, which running out of memory has halved.
        memory_bytes: of the engine's process; 0 where it is not known.
        policy: that decides its rounds.
        replicas: engines that serve.
        problem: why it failed, or why its process is replaced, in words; empty where it is well.
    """

    state: str
    load: Load = Load()
    accepted: int = 0
    finished: int = 0
    failed: int = 0
    cancelled: int = 0
    restarts: int = 0
    poisoned: int = 0
    max_rows: int = 0
    memory_bytes: int = 0
    policy: str = ""
    replicas: int = 1
    problem: str = ""


@dataclass(frozen=True)
class RowSeen:
    """A wish that moved one row on: `row` of `rows` are done after it."""

    ticket: str
    row: int
    rows: int
    height: int
    width: int
    guided: bool  # whether both branches of guidance were evaluated
    skipped: bool  # whether the scheduler left out the unconditional one


@dataclass(frozen=True)
class ChunkSeen:
    """A wish whose decoding moved one chunk on: `chunk` of `chunks` were done before it."""

    ticket: str
    chunk: int
    chunks: int


@dataclass(frozen=True)
class RoundSeen:
    """One round of the engine.

    Attributes:
        replica: which engine.
        at: seconds on `time.monotonic` when it began; `seconds` that it took.
        unet_s, decode_s: of it, until its rows were done, and its chunks.
        rows, chunks: what ran.
        calls: network calls.
        network_rows: rows of the network, both branches counted.
        waiting, resident: wishes without and with a slot when it ended.
        finished: wishes that were done in it.
        reason: in a word why no more rows ran in it: "all" (none were left), "saturation", "slots", "deadline", ...
        controller: the feedback controller's settings and state, by name.
    """

    replica: int
    at: float
    seconds: float
    unet_s: float
    decode_s: float
    rows: tuple[RowSeen, ...]
    chunks: tuple[ChunkSeen, ...]
    calls: int
    network_rows: int
    waiting: int
    resident: int
    finished: int
    reason: str = ""
    controller: dict[str, float] = field(default_factory=dict)
