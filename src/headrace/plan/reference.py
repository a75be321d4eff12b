"""The semantics of a plan in numpy: slow, plain, and what the engine must agree with."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from headrace.errors import PlanError
from headrace.plan.plan import Plan

Array = NDArray[np.floating]
Network = Callable[[Array, float], Array]


def run(
    plan: Plan, network: Network, x: Array, noise_source: Callable[[], Array], unconditional: Network | None = None
) -> Array:
    """The final sample of `plan` from first latents `x` of standard deviation `init_noise_sigma`, in the dtype of `x`.

    `network(scaled_x, timestep)` returns an array like `x`; `unconditional` is asked too where guidance is not 1.
    `noise_source()` returns one standard-normal array like `x`; it is called `draws` times a row, in order, and the
    last is used. A plan that resizes, fuses or caches needs a network that knows how, so it raises `PlanError` here.
    """
    _require_plain(plan, unconditional)
    number = x.dtype.type
    registers: deque[Array] = deque(maxlen=plan.history)
    for row in range(len(plan)):
        scaled = number(plan.input_scale[row]) * x
        out = network(scaled, float(plan.timestep[row]))
        if plan.guidance[row] != 1.0 and unconditional is not None:
            base = unconditional(scaled, float(plan.timestep[row]))
            out = base + number(plan.guidance[row]) * (out - base)
        register = number(plan.p[row]) * x + number(plan.q[row]) * out
        registers.appendleft(np.clip(register, number(plan.clip[row, 0]), number(plan.clip[row, 1])))
        x = number(plan.a[row]) * x
        for weight, past in zip(plan.b[row], registers, strict=False):
            x = x + number(weight) * past
        x = x + number(plan.c[row]) * out
        for draw in range(int(plan.draws[row])):
            xi = noise_source()
            if draw == plan.draws[row] - 1:
                x = x + number(plan.noise[row]) * xi
    return x


def _require_plain(plan: Plan, unconditional: Network | None) -> None:
    if (plan.scale != 1).any() or (plan.fusion != 1).any() or not plan.compute.all():
        raise PlanError("the reference executor does not resize, fuse or cache", "Run this plan with headrace.engine")
    if unconditional is None and (plan.guidance != 1).any():
        raise PlanError("the plan is guided, but there is no unconditional network", "Pass unconditional=")
