"""Guidance taken from rows: after a share, outside an interval, in single rows; and what the engine then evaluates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.engine import Engine
from headrace.errors import PlanError
from headrace.plan import Plan
from headrace.request import Request
from headrace.techniques.guidance.schedule import cut_off, interval, skip

SHARES = st.floats(0, 1)


def make_plan(rows: int, guidance: object = 5.0) -> Plan:
    return Plan(timestep=np.linspace(999, 0, rows), a=1.0, b=np.zeros((rows, 1)), guidance=guidance)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    rows = draw(st.integers(1, 30))
    return make_plan(rows, draw(st.lists(st.sampled_from([1.0, 2.5, 7.5]), min_size=rows, max_size=rows)))


def test_three_quarters_of_twenty_rows():
    plan = cut_off(make_plan(20), 0.75)
    assert plan.guidance.tolist() == [5.0] * 15 + [1.0] * 5
    assert plan.network_rows == 35


def test_an_interval_and_single_rows():
    assert interval(make_plan(10), 0.2, 0.5).guidance.tolist() == [1.0] * 2 + [5.0] * 3 + [1.0] * 5
    assert skip(make_plan(5), [1, 4]).guidance.tolist() == [5.0, 1.0, 5.0, 5.0, 1.0]


@given(plan=plans(), share=SHARES)
def test_a_cut_off_is_an_interval_and_keeps_what_is_before_it(plan, share):
    cut = cut_off(plan, share)
    last = round(share * len(plan))
    assert cut == interval(plan, 0.0, share)
    assert cut.guidance[:last].tolist() == plan.guidance[:last].tolist()
    assert (cut.guidance[last:] == 1.0).all()
    assert cut.network_rows == len(plan) + np.count_nonzero(plan.guidance[:last] != 1.0)


@given(plan=plans(), first=SHARES, second=SHARES, data=st.data())
def test_order_does_not_matter_and_no_other_column_changes(plan, first, second, data):
    rows = data.draw(st.sets(st.integers(0, len(plan) - 1)))
    start, end = sorted((first, second))
    one = skip(interval(cut_off(plan, second), start, end), rows)
    other = cut_off(interval(skip(plan, rows), start, end), second)
    assert one == other
    assert set(one.differences(plan)) <= {"guidance"}
    assert skip(one, rows) is one


@given(plan=plans())
def test_off_is_the_plan_itself(plan):
    assert cut_off(plan, 1.0) is plan
    assert interval(plan, 0.0, 1.0) is plan
    assert skip(plan, []) is plan


@pytest.mark.parametrize("share", [-0.1, 1.01, math.nan, math.inf])
def test_shares_outside_the_rows_are_refused(share):
    for refused in (lambda: cut_off(make_plan(4), share), lambda: interval(make_plan(4), share, 1.0)):
        with pytest.raises(PlanError, match=f"{share} of the rows.*0 to 1"):
            refused()


def test_intervals_that_end_before_they_start_and_rows_that_are_not_there():
    with pytest.raises(PlanError, match=r"start at 0\.5 of the rows and end at 0\.2"):
        interval(make_plan(4), 0.5, 0.2)
    for row in (-1, 4):
        with pytest.raises(PlanError, match=rf"row {row}.*rows are 0 to 3"):
            skip(make_plan(4), [0, row])


def test_the_engine_evaluates_one_branch_behind_the_cut(tiny_pipeline):
    pipeline = tiny_pipeline("sd1")
    asked = Request(prompt="red apple", steps=6, guidance_scale=4.0, solver="ddim")
    engine = Engine(pipeline, decide=lambda plan: cut_off(plan, 0.5))
    engine.submit(asked)
    rows = []
    while engine.busy:
        rows.append(engine.step().network_rows)
    assert rows == [2, 2, 2, 1, 1, 1]
    [cut] = engine.collect()
    [plain] = Engine(pipeline).generate([asked])
    [whole] = Engine(pipeline, decide=lambda plan: cut_off(plan, 1.0)).generate([asked])
    assert np.array_equal(whole.pixels, plain.pixels)
    assert whole.plan == plain.plan
    assert not np.array_equal(cut.pixels, plain.pixels)
