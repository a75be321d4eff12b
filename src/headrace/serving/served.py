"""What a loop keeps of a request, and what it says of it in the end."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from headrace.engine import Result
from headrace.engine.previews import Preview
from headrace.engine.slot import Job
from headrace.plan import Plan
from headrace.serving.state import Size, Task


@dataclass(frozen=True)
class Served:
    """What became of a request, and when: seconds on the loop's clock.

    Attributes:
        result: the picture, or the error that the request alone failed with.
        task: as it was before its last round: priority, deadline, skips and the first of them.
        started: when it got a slot; None where it failed before.
        denoised: when its last row was done; None where it failed before.
        finished: when its picture was there, or it failed.
    """

    result: Result
    task: Task
    started: float | None
    denoised: float | None
    finished: float

    @property
    def arrived(self) -> float:
        """When it was submitted."""
        return self.task.arrived


class Pending(Future[Served]):
    """What will become of a request.

    Attributes:
        number: its ticket in the loop and its engine.
        begun: the plan that it began with, before any fault.
    """

    def __init__(self, number: int, begun: Plan) -> None:
        super().__init__()
        self.number = number
        self.begun = begun


@dataclass(frozen=True)
class Previews:
    """That `count` previews of a request are wanted, evenly spread over its rows.

    `tell` is called with each from the loop's thread, and hands it on; one that raises hears no more.
    """

    count: int
    tell: Callable[[Preview], None]


@dataclass
class Entry:
    """A request of a loop; moments as in `Served`."""

    job: Job
    task: Task
    future: Pending
    started: float | None = None
    denoised: float | None = None
    previews: Previews | None = None

    def preview(self, preview: Preview) -> None:
        """Tells who asked for it."""
        if self.previews is None or self.future.cancelled():
            return
        try:
            self.previews.tell(preview)
        except Exception:
            self.previews = None


def task_of(job: Job, size: Size, arrived: float, begun: Plan) -> Task:
    """A job that waits, as policies see it; `begun` is the plan that its request began with, before any fault.

    One that goes on from a snapshot has the skips of its rows so far, and at least one row left: where only its
    decoding is to come, policies hear of it once it has a slot.
    """
    rows = len(job.plan)
    row = min(job.row, rows - 1)
    skipped = np.flatnonzero((begun.guidance != job.plan.guidance)[: job.row]) if len(begun) == rows else np.array([])
    guided = bool(job.plan.guidance[row] != 1)
    first = float(skipped[0]) / rows if skipped.size else None
    return Task(job.number, size, arrived, rows, row, guided, int(skipped.size), first)
