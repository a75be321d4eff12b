"""Where a plan goes from one latent size to another, and how."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import PlanError
from headrace.plan.plan import Plan


class Crossing(IntEnum):
    """How latents come to a row of another size; the values of the column `crossing`.

    All but `LATENTS` resize the data prediction of the row before, x0, and noise it again to the row's level. Fresh
    noise forgets what a network gets wrong at a size that it was not trained at: on the embedded model it keeps the
    most of the captions' recall. The first noise keeps nearest to the picture that full size throughout would give.
    """

    FRESH_NOISE = 0  # with fresh noise from the request's random stream
    KEPT_NOISE = 1  # with the noise of the row before, and fresh noise in what the smaller size did not hold
    FIRST_NOISE = 2  # as KEPT_NOISE, with the request's first noise in place of fresh
    LATENTS = 3  # the noisy latents are resized, and fresh noise makes up for the deviation that they lose


@dataclass(frozen=True)
class Change:
    """What latents come from where the size changes: arrays [..., C, h, w] of the old size.

    Attributes:
        row: the row that they go to; the number of rows after the last, where a plan ends below full size.
        sample: x of the row before.
        data: data prediction x0 of the row before, guided.
        latents: what the row before led to.
    """

    row: int
    sample: Any
    data: Any
    latents: Any


def changes(plan: Plan) -> NDArray[np.bool_]:
    """[R]: whether what a row leads to has another size than the row; after the last row pictures have full size."""
    following = np.append(plan.scale[1:], 1.0)
    different: NDArray[np.bool_] = plan.scale != following
    return different


def check_crossings(plan: Plan) -> None:
    """Raises `PlanError` where a size changes and the solver does not begin anew, or the row's level is not known."""
    last = np.where(plan.b != 0, np.arange(plan.history), 0).max(axis=1)
    for row in np.flatnonzero(plan.scale[1:] != plan.scale[:-1]) + 1:
        reading = np.flatnonzero(np.arange(len(plan)) - last < row)
        reading = reading[reading >= row]
        if reading.size:
            raise PlanError(
                f"column scale changes at row {row}, and row {reading[0]} still reads a register of row {row - 1}, "
                "of another size",
                "Have the solver begin anew there with headrace.plan.trace.restarted",
            )
        if not (plan.data_q[row - 1] and plan.signal[row] + plan.sigma[row]):
            raise PlanError(
                f"column scale changes at row {row}, where {plan.solver or 'a hand-made plan'} tells no data "
                "prediction or no noise level",
                "Choose another solver: ddim, dpm++2m, euler, unipc",
            )
