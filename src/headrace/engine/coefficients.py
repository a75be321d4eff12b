"""A plan as the engine reads it: one float32 row of coefficients for each network evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from headrace.plan.column import group_key_columns, key_columns
from headrace.plan.crossing import changes
from headrace.plan.plan import Plan

# Positions in a row; b[0], b[1], ... follow behind.
TIMESTEP, INPUT_SCALE, GUIDANCE, P, Q, CLIP_LOW, CLIP_HIGH, A, C, NOISE, B = range(11)


class Coefficients:
    """The float32 table of a plan and what the host must know of each row.

    Attributes:
        table: [R, 10 + H] float32 in the order of the constants above.
        depth: [R] how many earlier registers the row's update reads.
        guided: [R] whether the row evaluates both guidance branches.
        clipped: [R] whether the row bounds its register.
        draws: [R] normal draws from the request's stream; `noisy` says whether the last one is used.
        history: registers of earlier rows that must be kept.
        scales: [R + 1] latent size of each row over the final size, and 1 behind the last row.
        changes: [R] whether the row leads to latents of another size.
        keys: [R] the values of the key columns but fusion, on which rows must agree to share a call.
        fusion: [R] images that share the row's evaluation (K).
        group_keys: [R] the values on which rows must agree, besides, to share an evaluation.
    """

    def __init__(self, plan: Plan) -> None:
        solver = [plan.timestep, plan.input_scale, plan.guidance, plan.p, plan.q]
        update = [plan.clip[:, 0], plan.clip[:, 1], plan.a, plan.c, plan.noise]
        self.table: npt.NDArray[np.float32] = np.column_stack([*solver, *update, plan.b]).astype(np.float32)
        used = plan.b != 0
        positions = np.arange(plan.b.shape[1])
        self.depth: npt.NDArray[np.int64] = np.where(used, positions, 0).max(axis=1, initial=0)
        self.guided: npt.NDArray[np.bool_] = np.not_equal(plan.guidance, 1)
        self.clipped: npt.NDArray[np.bool_] = np.any(np.isfinite(plan.clip), axis=1)
        self.draws: npt.NDArray[np.int64] = plan.draws.astype(np.int64)
        self.noisy: npt.NDArray[np.bool_] = np.not_equal(plan.noise, 0)
        self.history: int = int(self.depth.max(initial=0))
        self.scales: list[float] = [*plan.scale.tolist(), 1.0]
        self.changes: npt.NDArray[np.bool_] = changes(plan)
        self.keys = _values(plan, [name for name in key_columns() if name != "fusion"])
        self.fusion: list[int] = plan.fusion.tolist()
        self.group_keys = _values(plan, group_key_columns())

    def __len__(self) -> int:
        return len(self.table)


def _values(plan: Plan, names: Sequence[str]) -> list[tuple[float, ...]]:
    """[R] the values of these columns."""
    columns = [getattr(plan, name) for name in names]
    return [tuple(float(column[row]) for column in columns) for row in range(len(plan))]


@lru_cache(maxsize=1024)
def coefficients(plan: Plan) -> Coefficients:
    """The coefficients of a plan, shared by all requests with an equal one."""
    return Coefficients(plan)
