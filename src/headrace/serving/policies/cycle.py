"""A cycle: every row of a batch once, a chunk of every pending decoding, split into rounds as is best for the mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headrace.serving.latency_table import LatencyTable
from headrace.serving.policies.planners import Planned, Planners, Work
from headrace.serving.schedule import Stage
from headrace.serving.state import Round, Size, Task

_GAIN = 0.99  # decoding alone must be so much cheaper: rounds of the network cost something, too


@dataclass(frozen=True)
class Batch:
    """What a cycle is made of.

    Attributes:
        rows: tasks of one size, the most urgent first.
        skippable: those among them whose unconditional branch may be left out.
        pending: decodings whose next chunk may run, at most `Planners.most_decodings`.
        others: tasks, these rows' among them, that wait while the cycle runs.
        kept_out: tasks that wait for the slots of the decodings, one for each at most.
        alone: whether the decodings may run in rounds of their own: nothing is in flight.
    """

    rows: Sequence[Task]
    skippable: frozenset[int]
    pending: Sequence[Task]
    others: int
    kept_out: int = 0
    alone: bool = True

    @property
    def size(self) -> Size:
        """Of the rows; without rows, of the first decoding."""
        return (self.rows or self.pending)[0].size

    @property
    def single(self) -> int:
        """Rows that evaluate one branch at most: they may skip the other, or have none."""
        return sum(task.number in self.skippable or not task.guided for task in self.rows)


@dataclass(frozen=True)
class _Option:
    cost: float
    stages: Sequence[Stage]
    chunks: int


class Cycles:
    """Chooses between decoding beside the rows, whole or in chunks, in the stages that the programme finds, and alone.

    The cost of an option is what it adds to the sum of all tasks' latencies: when the decodings are done, and by how
    much the others are delayed until then.
    """

    def __init__(self, table: LatencyTable, planners: Planners) -> None:
        self._table = table
        self._planners = planners

    def rounds(self, batch: Batch, chunk_counts: Sequence[int]) -> list[Round]:
        """The rounds of the best option; decodings that begin are cut into one of `chunk_counts`."""
        if not batch.pending:
            return [self._round(batch.rows, batch.skippable, (), 1)] if batch.rows else []
        pending = sorted(batch.pending, key=_chunks_left)  # who is done by this chunk goes first
        alone = self._alone(batch, pending) if batch.alone or not batch.rows else None
        if not batch.rows:
            return [] if alone is None else [_decode(pending, alone.stages[0].decodings)]
        counts = chunk_counts if any(task.chunks == 0 for task in pending) else [max(task.chunks for task in pending)]
        best = min((self._beside(batch, pending, count) for count in counts), key=lambda option: option.cost)
        if alone is not None and alone.cost < _GAIN * best.cost:
            return [_decode(pending, alone.stages[0].decodings)]
        return list(self._assign(batch, pending, best))

    def _alone(self, batch: Batch, pending: Sequence[Task]) -> _Option:
        """Every decoding's whole rest without rows beside it; the others wait."""
        loads = [self._equivalent(batch.size, task, 1) * _chunks_left(task) for task in pending]
        work = Work(batch.size, 1, 0, len(pending), 0, sum(loads) / len(loads))
        schedule = self._planners.plan(work, 0).schedule
        seconds = sum(
            self._table.round_s({}, {batch.size: stage.decodings * work.scale})[1] for stage in schedule.stages
        )
        return _Option(schedule.cost + batch.others * seconds, schedule.stages, 1)

    def _beside(self, batch: Batch, pending: Sequence[Task], chunks: int) -> _Option:
        """Beside the rows: the programme's stages, or the coarsest where that is cheaper all in all."""
        loads = [self._equivalent(batch.size, task, chunks) for task in pending]
        scale = sum(loads) / len(loads)
        work = Work(batch.size, chunks, len(batch.rows), len(pending), batch.single, scale)
        undisturbed = self._table.round_s({batch.size: (work.rows, work.skips)}, {})[0]
        options = []
        for split in (False, True):
            planned = self._planners.plan(work, batch.others, split)
            stages = _stages(planned, work)
            cost = self._cost(work, stages, [_chunks_left(task, chunks) for task in pending], undisturbed, batch)
            options.append(_Option(cost, stages, chunks))
            if work.rows == 1:
                break
        coarsest, best = options[0], options[-1]
        return best if best.cost < coarsest.cost * (1 - 1e-9) else coarsest

    def _cost(
        self, work: Work, stages: Sequence[Stage], chunks_left: Sequence[int], undisturbed: float, batch: Batch
    ) -> float:
        """Summed completion of the decodings, if every cycle until then is like this one, and the others' delay.

        Others are delayed by slower rows, and by smaller batches as long as the decodings keep their slots.
        """
        start, done = 0.0, []
        for stage in stages:
            groups = {work.size: (float(stage.rows), float(stage.skipped))}
            loads = {work.size: stage.decodings * work.scale} if stage.decodings else {}
            unet_s, vae_s = self._table.round_s(groups, loads, work.chunks)
            done += [start + vae_s] * stage.decodings
            start += unet_s
        waits = [moment + (left - 1) * start for moment, left in zip(done, chunks_left, strict=True)]
        slower = (start - undisturbed) * max(chunks_left)
        return sum(waits) + batch.others * (slower + self._lost(work, undisturbed, batch.kept_out) * max(waits))

    def _lost(self, work: Work, undisturbed: float, kept_out: int) -> float:
        """The share of throughput that a batch loses to one with `kept_out` more rows."""
        if not kept_out:
            return 0.0
        rows = work.rows + kept_out
        full = self._table.round_s({work.size: (rows, work.skips * rows / work.rows)}, {})[0]
        return max(0.0, 1 - work.rows * full / (rows * undisturbed))

    def _assign(self, batch: Batch, pending: Sequence[Task], option: _Option) -> Iterator[Round]:
        """Tasks to stages: the most urgent rows first, those that may skip where the stage skips."""
        rows, decodings = list(batch.rows), list(pending)
        for stage in option.stages:
            single = [task for task in rows if task.number in batch.skippable or not task.guided][: stage.skipped]
            chosen = {task.number for task in single}
            rest = [task for task in rows if task.number not in chosen]
            # Those that cannot skip fill the stage first: the others are left for the stages that skip.
            rest.sort(key=lambda task: task.number in batch.skippable)
            taken = (single + rest)[: stage.rows]
            numbers = {task.number for task in taken}
            rows = [task for task in rows if task.number not in numbers]
            decoded, decodings = decodings[: stage.decodings], decodings[stage.decodings :]
            yield self._round(taken, batch.skippable & chosen, decoded, option.chunks)

    def _round(self, rows: Sequence[Task], skip: frozenset[int], decoded: Sequence[Task], chunks: int) -> Round:
        numbers = tuple(task.number for task in rows)
        return Round((), numbers, skip, tuple(task.number for task in decoded), chunks)

    def _equivalent(self, size: Size, task: Task, chunks: int) -> float:
        """A chunk of a decoding as so many of a decoding of `size` that is cut into `chunks`."""
        return self._table.load_of(size, {task.size: 1.0}) * chunks / (task.chunks or chunks)


def _decode(pending: Sequence[Task], count: int) -> Round:
    return Round(decode=tuple(task.number for task in pending[:count]))


def _chunks_left(task: Task, chunks: int = 1) -> int:
    """Of a decoding, if it is cut into `chunks` where it has not begun."""
    return (task.chunks or chunks) - task.chunk


def _stages(planned: Planned, work: Work) -> list[Stage]:
    """In single rows and skips: a unit's last may be short, and skips that a unit left over join those that skip."""
    rows, skips, stages = work.rows, work.skips, []
    for stage in planned.schedule.stages:
        taken = min(stage.rows * planned.row_unit, rows)
        skipped = min(stage.skipped * planned.skip_unit, taken, skips)
        rows -= taken
        skips -= skipped
        stages.append(Stage(taken, stage.decodings, skipped))
    for index, stage in enumerate(stages):
        if skips and stage.skipped and planned.skip_unit > 1:
            more = min(skips, stage.rows - stage.skipped)
            stages[index] = Stage(stage.rows, stage.decodings, stage.skipped + more)
            skips -= more
    return stages
