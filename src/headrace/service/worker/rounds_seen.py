"""A round as those who watch are told of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from headrace.engine import RoundReport
from headrace.service.status import ChunkSeen, RoundSeen, RowSeen
from headrace.serving.state import Policy, Round, State, Task

Tickets = Callable[[Iterable[int]], Mapping[int, str]]


def round_seen(
    replica: int, tickets: Tickets, policy: Policy, state: State, decided: Round, report: RoundReport
) -> RoundSeen:
    """What a round did to the wishes that have `tickets`; `seconds` is left at 0."""
    there = {task.number: task for task in (*state.waiting, *state.denoising, *state.decoding)}
    moved = [there[number] for number in report.moved if number in there]
    decoded = [there[number] for number in decided.decode if number in there]
    names = tickets([task.number for task in (*moved, *decoded)])
    return RoundSeen(
        replica=replica,
        at=state.now,
        seconds=0.0,
        unet_s=report.unet_s,
        decode_s=_decode_s(report),
        rows=tuple(_row_seen(names[task.number], task, decided) for task in moved if task.number in names),
        chunks=tuple(_chunk_seen(names[task.number], task, decided) for task in decoded if task.number in names),
        calls=report.calls,
        network_rows=report.network_rows,
        waiting=report.waiting,
        resident=report.resident,
        finished=report.finished,
        reason=decided.reason,
        controller=_controller(policy),
    )


def _row_seen(ticket: str, task: Task, decided: Round) -> RowSeen:
    skipped = task.guided and task.number in decided.skip
    return RowSeen(ticket, task.row + 1, task.rows, *task.size, task.guided and not skipped, skipped)


def _chunk_seen(ticket: str, task: Task, decided: Round) -> ChunkSeen:
    return ChunkSeen(ticket, task.chunk, task.chunks or decided.chunks)


def _decode_s(report: RoundReport) -> float:
    """Of the chunks that are done: others run on beside the next round, which must not wait for them."""
    times = report.times
    if times is None or not all(chunk.done for chunk in times.chunks):
        return 0.0
    return report.decode_s


def _controller(policy: Policy) -> dict[str, float]:
    found = getattr(policy, "controller", None)
    if found is None:
        return {}
    return {"tau": float(found.tau), "chunks": float(found.chunks), "level": float(found.level)}
