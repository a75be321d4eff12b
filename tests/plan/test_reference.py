"""The reference executor: the semantics of one row, by hand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from headrace.errors import PlanError
from headrace.plan import Plan
from headrace.plan.crossing import Change
from headrace.plan.reference import drive, run, trajectory


def stream(values: list[float]) -> Iterator[np.ndarray]:
    return iter([np.array([value]) for value in values])


def test_one_row_by_hand() -> None:
    plan = Plan(
        timestep=[7.0],
        input_scale=[0.5],
        p=[2.0],
        q=[3.0],
        a=[10.0],
        b=[[100.0]],
        c=[1000.0],
        noise=[0.25],
        draws=[2],
        clip=[-1.0, 8.0],
    )  # type: ignore[arg-type]
    noise = stream([1.0, 4.0])
    result = run(plan, lambda x, t: x + t, np.array([2.0]), lambda: next(noise))
    out = 0.5 * 2.0 + 7.0
    register = min(2.0 * 2.0 + 3.0 * out, 8.0)
    assert result.tolist() == [10.0 * 2.0 + 100.0 * register + 1000.0 * out + 0.25 * 4.0]


def test_older_registers_and_missing_ones() -> None:
    plan = Plan(timestep=[1.0, 2.0, 3.0], a=[0.0] * 3, b=[[1.0, 10.0, 100.0]] * 3, p=[0.0] * 3)  # type: ignore[arg-type]
    outputs = []
    run(plan, lambda x, t: outputs.append(x.copy()) or np.array([t]), np.array([5.0]), lambda: np.zeros(1))
    assert [x.item() for x in outputs] == [5.0, 1.0, 2.0 + 10.0]
    last = run(plan, lambda x, t: np.array([t]), np.array([5.0]), lambda: np.zeros(1))
    assert last.item() == 3.0 + 20.0 + 100.0


def test_guidance_goes_from_unconditional_through_conditional() -> None:
    plan = Plan(timestep=[1.0, 1.0], a=[0.0, 1.0], b=[[1.0], [1.0]], guidance=[3.0, 1.0])  # type: ignore[arg-type]
    result = run(plan, lambda x, t: np.array([2.0]), np.array([0.0]), lambda: np.zeros(1), lambda x, t: np.array([1.0]))
    assert result.item() == (1.0 + 3.0 * (2.0 - 1.0)) + 2.0
    with pytest.raises(PlanError, match="unconditional"):
        run(plan, lambda x, t: x, np.array([0.0]), lambda: np.zeros(1))


def test_dtype_follows_the_sample() -> None:
    plan = Plan(timestep=[1.0], a=[0.1], b=[[0.3]])  # type: ignore[arg-type]
    for dtype in (np.float32, np.float64):
        assert run(plan, lambda x, t: x, np.ones(3, dtype), lambda: np.zeros(3)).dtype == dtype


def test_where_the_scale_changes_latents_are_resized_from_the_row_before() -> None:
    plan = Plan(
        timestep=[2.0, 1.0],
        a=[0.5, 1.0],
        b=[[1.0], [1.0]],
        data_p=[3.0, 0.0],
        data_q=[4.0, 1.0],
        clip=[[-1.0, 30.0], [-9.0, 9.0]],
        scale=[0.5, 1.0],
    )  # type: ignore[arg-type]
    seen = []

    def doubled(change: Change) -> np.ndarray:
        seen.append(change)
        return np.repeat(change.latents, 2)

    rows = trajectory(plan, np.array([2.0]), lambda: np.zeros(1), doubled)
    final = drive(rows, lambda asked: asked.sample + asked.timestep)
    [change] = seen
    assert (change.row, change.sample.tolist(), change.latents.tolist()) == (1, [2.0], [0.5 * 2.0 + 4.0])
    assert change.data.tolist() == [3.0 * 2.0 + 4.0 * 4.0]
    assert final.tolist() == [5.0 + 6.0] * 2
    with pytest.raises(PlanError, match=r"changes its scale at row 1.*resize="):
        drive(trajectory(plan, np.array([2.0]), lambda: np.zeros(1)), lambda asked: asked.sample)


@pytest.mark.parametrize("columns", [{"scale": 0.5}, {"fusion": 2}, {"compute": [[True], [False]]}])
def test_what_needs_more_than_a_network_is_refused(columns: dict[str, object]) -> None:
    plan = Plan(timestep=[1.0, 0.0], a=[1.0, 1.0], b=[[1.0], [1.0]]).with_columns(**columns)  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="does not"):
        run(plan, lambda x, t: x, np.ones(1), lambda: np.zeros(1))
