"""The semantics of a plan, slow and plain: what the engine must agree with, and the loop that calibration runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from headrace.errors import PlanError
from headrace.plan.crossing import Change, changes
from headrace.plan.plan import Plan

Array = Any  # of numpy or of torch: only operators that both have are used
Network = Callable[[Array, float], Array]


@dataclass(frozen=True)
class Evaluation:
    """A row of a trajectory that waits for the network's (guided) output: its number, input and timestep."""

    row: int
    sample: Array
    timestep: float


def trajectory(
    plan: Plan, x: Array, noise_source: Callable[[], Array], resize: Callable[[Change], Array] | None = None
) -> Generator[Evaluation, Array, Array]:
    """Yields what the network is to evaluate, row by row, is sent its output and returns the final sample.

    `x` are the first latents, of standard deviation `init_noise_sigma`, in any shape and dtype, of numpy or torch; many
    requests of one plan may share it. `noise_source()` returns one standard-normal array like `x`; it is called `draws`
    times a row, in order, and the last is used.

    Where `scale` changes, `resize` returns the latents of the next row, and `x`, what `noise_source` gives and what is
    sent are of the size of their row. `PlanError` for such a plan without `resize`.
    """
    resizes = changes(plan)
    if resize is None and resizes.any():
        raise PlanError(
            f"the plan changes its scale at row {resizes.argmax() + 1}, and nothing resizes", "Pass resize="
        )
    registers: deque[Array] = deque(maxlen=plan.history)
    for row in range(len(plan)):
        out = yield Evaluation(row, float(plan.input_scale[row]) * x, float(plan.timestep[row]))
        low, high = plan.clip[row].tolist()
        register = float(plan.p[row]) * x + float(plan.q[row]) * out
        registers.appendleft(register.clip(low, high))
        before = x
        x = float(plan.a[row]) * x
        for weight, past in zip(plan.b[row].tolist(), registers, strict=False):
            x = x + weight * past
        x = x + float(plan.c[row]) * out
        for draw in range(int(plan.draws[row])):
            xi = noise_source()
            if draw == plan.draws[row] - 1:
                x = x + float(plan.noise[row]) * xi
        if resizes[row] and resize is not None:
            data = (float(plan.data_p[row]) * before + float(plan.data_q[row]) * out).clip(low, high)
            x = resize(Change(row + 1, before, data, x))
            registers.clear()
    return x


def drive(rows: Generator[Evaluation, Array, Array], evaluate: Callable[[Evaluation], Array]) -> Array:
    """The final sample of a `trajectory` whose every row is answered by `evaluate`, guidance applied."""
    output = None
    while True:
        try:
            asked = rows.send(output)
        except StopIteration as end:
            return end.value
        output = evaluate(asked)


def run(
    plan: Plan, network: Network, x: Array, noise_source: Callable[[], Array], unconditional: Network | None = None
) -> Array:
    """The final sample of `plan` from first latents `x`, in their dtype (see `trajectory`).

    `network(scaled_x, timestep)` returns an array like `x`; `unconditional` is asked too where guidance is not 1.
    A plan that resizes, fuses or caches needs a network that knows how, so it raises `PlanError` here.
    """
    _require_plain(plan, unconditional)

    def evaluate(asked: Evaluation) -> Array:
        out = network(asked.sample, asked.timestep)
        if plan.guidance[asked.row] != 1.0 and unconditional is not None:
            base = unconditional(asked.sample, asked.timestep)
            out = base + float(plan.guidance[asked.row]) * (out - base)
        return out

    return drive(trajectory(plan, x, noise_source), evaluate)


def _require_plain(plan: Plan, unconditional: Network | None) -> None:
    if (plan.scale != 1).any() or (plan.fusion != 1).any() or not plan.compute.all():
        raise PlanError("the reference executor does not resize, fuse or cache", "Run this plan with headrace.engine")
    if unconditional is None and (plan.guidance != 1).any():
        raise PlanError("the plan is guided, but there is no unconditional network", "Pass unconditional=")
