"""What a request under way needs to go on elsewhere, at the row that it has come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from headrace.errors import PlanError
from headrace.plan.plan import Plan

if TYPE_CHECKING:
    from headrace.engine.slot import Job

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Snapshot:
    """A request at a row boundary, on the host. Whoever goes on from it makes the picture that it would have become.

    It holds arrays and plain values alone, so one process may pickle it for another of its own.

    Attributes:
        row: plan rows done, 0 to R; at R only the decoding is to come.
        plan: of the request, as it was replanned on the way.
        latents: [C, h, w], of the size of the row that comes next.
        registers: [H, C, h, w], the ring of the last ones.
        stream: state of the request's random stream.
        evaluated: as in `Slot`: row -> K that it was evaluated with, and whether its group was padded.
    """

    row: int
    plan: Plan
    latents: Floats
    registers: Floats
    stream: npt.NDArray[np.uint8]
    evaluated: Mapping[int, tuple[int, bool]] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays, the plan's left out: equal plans are one object in an engine."""
        return self.latents.nbytes + self.registers.nbytes + self.stream.nbytes


def check_snapshot(snapshot: Snapshot, job: Job, history: int) -> None:
    """Raises `PlanError` where a job, planned as the snapshot says, cannot go on from it."""
    plan, row = snapshot.plan, snapshot.row
    if not 0 <= row <= len(plan):
        raise PlanError(f"the snapshot is at row {row} of a plan of {len(plan)}", "Begin the request again")
    if not resumable(plan, row):
        raise PlanError(
            f"row {row} of the snapshot's plan reuses block values of earlier rows, which no snapshot has",
            "Begin the request again",
        )
    shape = job.sizes[float(plan.scale[row]) if row < len(plan) else 1.0]
    expected: tuple[tuple[str, npt.NDArray[Any], tuple[int, ...]], ...] = (
        ("latents", snapshot.latents, shape),
        ("registers", snapshot.registers, (history, *shape)),
    )
    for name, array, wanted in expected:
        if array.shape != wanted or array.dtype != np.float32:
            raise PlanError(
                f"the snapshot's {name} are {array.dtype} {array.shape}, and the request's float32 {wanted} at row "
                f"{row}",
                "Resume with the request and the model that the snapshot was taken of",
            )


def resumable(plan: Plan, row: int) -> bool:
    """Whether rows from `row` on reuse no block value of rows before it: those are not in a snapshot."""
    return row == len(plan) or bool(plan.compute[row].all())
