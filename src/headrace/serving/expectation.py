"""What a round leads to, as far as can be known before it ran."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from headrace.serving.state import Round, State, Task


def expected(state: State, decided: Round) -> State:
    """What there will be when the round is over, as far as can be known: nothing fails, chunks are done with it."""
    admitted = set(decided.admit)
    resident = _sorted([*state.denoising, *(task for task in state.waiting if task.number in admitted)])
    moved = [_after_row(task) if task.number in decided.rows else task for task in resident]
    pending = [_after_chunk(task, decided) for task in state.decoding]
    denoised = [task for task in moved if task.row == task.rows]
    return State(
        state.now,
        [task for task in state.waiting if task.number not in admitted],
        [task for task in moved if task.row < task.rows],
        _sorted([*denoised, *(task for task in pending if not _decoded(task))]),
        state.in_flight - set(decided.decode),
        state.slots,
    )


def _after_row(task: Task) -> Task:
    return replace(task, row=task.row + 1, guided=task.guided and task.row + 1 < task.rows)


def _after_chunk(task: Task, decided: Round) -> Task:
    if task.number not in decided.decode:
        return task
    return replace(task, chunks=task.chunks or decided.chunks, chunk=task.chunk + 1)


def _decoded(task: Task) -> bool:
    return 0 < task.chunks <= task.chunk


def _sorted(tasks: Iterable[Task]) -> list[Task]:
    return sorted(tasks, key=lambda task: task.number)
