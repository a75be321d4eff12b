"""Which rows evaluate the deep branch and the cross-attentions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import PlanError
from headrace.plan import Plan
from headrace.techniques.postdiff.module_schedule import INTERVAL, SHARE, module_caching

BLOCKS = ("branch.0.0", "down_blocks.0.attentions.0", "down_blocks.0.attentions.0.transformer_blocks.0.attn2")


def plan_of(rows, **columns):
    return Plan(timestep=np.arange(rows, 0.0, -1), a=np.ones(rows), b=np.zeros((rows, 1)), **columns)


def test_the_papers_constants():
    assert (INTERVAL, SHARE) == (2, 0.75)
    filled = module_caching(plan_of(8), BLOCKS)
    assert filled.compute[:, 0].tolist() == [True, False] * 4
    assert filled.compute[:, 1].all()
    assert filled.compute[:, 2].tolist() == [True] * 6 + [False] * 2


@given(
    rows=st.integers(1, 12),
    interval=st.integers(1, 5),
    share=st.floats(0, 1),
    guided=st.lists(st.booleans(), min_size=12, max_size=12),
    small=st.integers(0, 12),
)
def test_any_settings_can_be_carried_out_and_touch_no_other_column(rows, interval, share, guided, small):
    guidance = np.where(guided[:rows], 3.0, 1.0)
    plan = plan_of(rows, guidance=guidance, scale=np.where(np.arange(rows) < small, 0.5, 1.0))
    filled = module_caching(plan, BLOCKS, interval, share)
    filled.check_reuse()
    assert set(plan.differences(filled)) <= {"compute"}
    branch, other, cross = filled.compute.T
    assert other.all()
    gaps = np.diff(np.flatnonzero(np.append(branch, True)))
    assert (gaps <= interval).all()
    assert cross[: round(share * rows)].all()
    fresh = (guidance[1:] != 1) & (guidance[:-1] == 1) | (plan.scale[1:] != plan.scale[:-1])
    late = np.arange(1, rows) >= round(share * rows)
    assert np.array_equal(cross[1:][late], fresh[late])
    if interval == 1 and share == 1:
        assert filled.compute.all()


def test_the_interval_is_counted_anew_where_everything_is_evaluated():
    guidance = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 3.0])
    branch = module_caching(plan_of(9, guidance=guidance), BLOCKS, 3).compute[:, 0]
    assert np.flatnonzero(branch).tolist() == [0, 3, 5, 8]


def test_what_another_technique_decided_stays():
    compute = np.ones((4, 3), bool)
    compute[2:] = False
    filled = module_caching(plan_of(4, compute=compute), BLOCKS, 2, 0.5)
    assert filled.compute.T.tolist() == [[True, False] * 2, [True, True, False, False], [True, True, False, False]]


@pytest.mark.parametrize(
    ("interval", "share", "words"), [(0, 0.5, "every 0"), (2, 1.1, "1.1"), (2, -0.1, "-0.1"), (2, float("nan"), "nan")]
)
def test_settings_out_of_range_are_refused(interval, share, words):
    with pytest.raises(PlanError, match=words):
        module_caching(plan_of(4), BLOCKS, interval, share)


def test_columns_of_other_blocks_are_refused():
    with pytest.raises(PlanError, match="2 blocks, and 3"):
        module_caching(plan_of(4, compute=np.ones((4, 2), bool)), BLOCKS)
