"""Which rows of a plan are small, and what is refused."""

from __future__ import annotations

import math

import diffusers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import PlanError, SolverError
from headrace.plan import Plan
from headrace.plan.crossing import Crossing, check_crossings
from headrace.plan.trace import restarted, trace
from headrace.techniques.postdiff.schedule import mixed_resolution


def plan(steps: int = 10, **options: object) -> Plan:
    return trace(diffusers.DPMSolverMultistepScheduler(**options), steps)


@settings(deadline=None, max_examples=25)
@given(st.floats(0, 1), st.sampled_from([0.375, 0.5, 0.75]), st.integers(1, 12), st.sampled_from(list(Crossing)))
def test_the_first_share_of_the_rows_is_small(share: float, scale: float, steps: int, way: Crossing) -> None:
    plain = plan(steps)
    mixed = mixed_resolution(plain, share, scale, way)
    small = round(share * steps)
    assert mixed.scale.tolist() == [scale] * small + [1.0] * (steps - small)
    check_crossings(mixed)
    if small < steps:
        assert mixed.crossing[small] == (way if small else 0)
        alike = restarted(plain, small) if small else plain
        assert set(mixed.differences(alike)) <= {"scale", "crossing"}
    else:
        assert set(mixed.differences(plain)) <= {"scale", "crossing"}


def test_nothing_small_is_the_plan_itself() -> None:
    plain = plan()
    assert mixed_resolution(plain, 0.0, 0.5) is plain
    assert mixed_resolution(plain, 0.04, 0.5) is plain
    assert mixed_resolution(plain, 0.7, 1.0) is plain


def test_the_papers_constants_are_the_defaults() -> None:
    assert mixed_resolution(plan()).scale.tolist() == [0.5] * 5 + [1.0] * 5


def test_guidance_set_before_is_kept() -> None:
    guided = plan().with_columns(guidance=[7.0] * 6 + [1.0] * 4)
    assert np.array_equal(mixed_resolution(guided).guidance, guided.guidance)


def test_a_step_of_two_evaluations_is_not_cut_in_two() -> None:
    heun = trace(diffusers.HeunDiscreteScheduler(), 8)  # rows 1 and 2 are one step, 3 and 4 the next
    sizes = [int((mixed_resolution(heun, rows / len(heun)).scale == 0.5).sum()) for rows in range(1, 8)]
    assert sizes == [2, 2, 4, 4, 6, 6, 8]


@pytest.mark.parametrize("share", [-0.1, 1.01, math.nan, math.inf])
def test_shares_that_are_none(share: float) -> None:
    with pytest.raises(PlanError, match="s, the share of rows at low resolution, is"):
        mixed_resolution(plan(), share)


@pytest.mark.parametrize("scale", [0.0, -0.5, 1.5, 0.001, math.nan])
def test_scales_that_are_none(scale: float) -> None:
    with pytest.raises(PlanError, match="beta, the scale of rows at low resolution, is"):
        mixed_resolution(plan(), 0.5, scale)


def test_plans_that_cannot_be_mixed() -> None:
    with pytest.raises(PlanError, match="already"):
        mixed_resolution(mixed_resolution(plan()))
    with pytest.raises(SolverError, match=r"PNDMScheduler cannot begin anew at row 6 of 11.*dpm\+\+2m"):
        mixed_resolution(trace(diffusers.PNDMScheduler(skip_prk_steps=True), 10), 0.5)


def test_a_size_that_changes_amid_a_history_is_refused() -> None:
    third = trace(diffusers.DPMSolverMultistepScheduler(solver_order=3), 8)
    with pytest.raises(PlanError, match="scale changes at row 4, and row 4 still reads a register of row 3"):
        check_crossings(third.with_columns(scale=[0.5] * 4 + [1.0] * 4))
    with pytest.raises(PlanError, match="hand-made plan tells no data prediction"):
        check_crossings(Plan(timestep=[1, 0], a=[1, 1], b=[[1], [1]], scale=[0.5, 1]))  # type: ignore[arg-type]
