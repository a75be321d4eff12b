"""What ran when: the rounds and chunks of a stretch of a run, for a picture of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from headrace.serving.state import Size


@dataclass(frozen=True, slots=True)
class RoundSpan:
    """The rows of one round.

    Attributes:
        replica: where.
        start, end: seconds; `end` is when the rows were done.
        groups: (rows, rows whose unconditional branch was left out by the scheduler or never asked for) of each size.
        waiting: requests without a slot at its start.
    """

    replica: int
    start: float
    end: float
    groups: dict[Size, tuple[int, int]]
    waiting: int


@dataclass(frozen=True, slots=True)
class ChunkSpan:
    """One decoder chunk of a task: the `chunk`-th, from 0, of `chunks`; `start` and `end` in seconds."""

    replica: int
    number: int
    size: Size
    chunk: int
    chunks: int
    start: float
    end: float


@dataclass
class Timeline:
    """Collects the rounds of all replicas from `start` on, at most `limit`, and the chunks that began in that time."""

    start: float = 0.0
    limit: int = 200
    rounds: list[RoundSpan] = field(default_factory=list)
    chunks: list[ChunkSpan] = field(default_factory=list)

    def follows(self, moment: float) -> bool:
        """Whether what begins at this moment is to be told."""
        return moment >= self.start and len(self.rounds) < self.limit
