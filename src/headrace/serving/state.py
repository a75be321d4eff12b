"""What a policy sees and what it answers. Times are seconds on the caller's clock, sizes (height, width) in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Task:
    """One request as the control plane knows it.

    Attributes:
        number: its ticket.
        size: of the picture, (height, width) in pixels.
        arrived: when it was submitted, seconds.
        rows: plan rows in all.
        row: rows done.
        guided: whether the row that comes next evaluates both guidance branches.
        skips: rows whose unconditional branch the scheduler left out so far.
        first_skip: progress (row / rows) of the first of them; None where there is none.
        chunks: decoder chunks that its decoding is cut into; 0 before it begins.
        chunk: decoder chunks done.
        priority: larger goes first.
        deadline: when it should be done, absolute seconds; None where it has none.
    """

    number: int
    size: Size
    arrived: float
    rows: int
    row: int = 0
    guided: bool = True
    skips: int = 0
    first_skip: float | None = None
    chunks: int = 0
    chunk: int = 0
    priority: int = 0
    deadline: float | None = None

    @property
    def rows_left(self) -> int:
        """Plan rows that are still to be evaluated."""
        return self.rows - self.row


@dataclass(frozen=True, slots=True)
class State:
    """Every task in the house at one moment, each group in order of arrival.

    Attributes:
        now: seconds.
        waiting: not admitted yet.
        denoising: in a slot, rows left.
        decoding: in a slot, all rows done, chunks left.
        in_flight: tickets among `decoding` whose chunk runs now; a round must not name them in `decode`.
        slots: places in all; `denoising` and `decoding` take one each.
    """

    now: float
    waiting: Sequence[Task]
    denoising: Sequence[Task]
    decoding: Sequence[Task]
    in_flight: frozenset[int]
    slots: int

    @property
    def free(self) -> int:
        """Slots that nobody has."""
        return max(0, self.slots - len(self.denoising) - len(self.decoding))


@dataclass(frozen=True, slots=True)
class Round:
    """What the engine does in one step. Tickets throughout.

    Attributes:
        admit: tasks that get a slot, in this order.
        rows: tasks that move one plan row on; may name tasks of `admit`.
        skip: tasks among `rows` whose unconditional branch is left out of this row.
        decode: tasks whose decoding moves one chunk on.
        chunks: how many chunks the decodings that begin in this round are cut into; 1: whole.
        wait_until: only in a round without rows and chunks: look again then, or at the next arrival.
        reason: in a word why no more rows run, for who looks on; it is no part of the decision. "all": every task that
            has rows left runs. Others do not, as they wait for a slot ("slots") or for room that the engine did not
            have lately ("room"); a larger batch would serve worse ("saturation") or is not allowed ("budget"); another
            size has its turn later ("size"); they run in another stage of this cycle ("stage"); decodings go first
            ("decoding"); who was overtaken too often goes first ("fairness"); one goes after another ("turn"); the
            batch is closed ("batch") or still collects ("window").
    """

    admit: tuple[int, ...] = ()
    rows: tuple[int, ...] = ()
    skip: frozenset[int] = frozenset()
    decode: tuple[int, ...] = ()
    chunks: int = 1
    wait_until: float | None = None
    reason: str = field(default="", compare=False)

    @property
    def idle(self) -> bool:
        """Whether nothing is to run."""
        return not self.rows and not self.decode


class Policy(Protocol):
    """Decides round after round. One object serves one engine; it may remember what it decided."""

    name: str

    def next(self, state: State) -> Round:
        """The round to run now. Rows may include tasks that the same round admits."""
        ...

    def prepare(self, state: State) -> None:
        """Works ahead for the state that is expected after the round that runs now. Changes no decision."""
        ...
