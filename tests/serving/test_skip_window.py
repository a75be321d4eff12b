"""The skip window: measured similarity decides, and nothing is allowed that was not measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import ServingError
from headrace.serving.skip_window import SkipWindow
from headrace.serving.state import Task

WINDOW = SkipWindow((0.25, 0.5, 0.75), (0.1, 0.3), ((0.8, 0.5), (0.95, 0.85), (1.0, 0.95)))


def task(row, skips=0, first_skip=None, rows=20, guided=True):
    return Task(0, (512, 512), 0.0, rows, row, guided, skips, first_skip)


def test_measured_points_are_met_and_between_them_it_is_linear():
    assert WINDOW.expected(0.5, 0.1) == pytest.approx(0.95)
    assert WINDOW.expected(0.5, 0.2) == pytest.approx(0.9)
    assert WINDOW.expected(0.625, 0.3) == pytest.approx(0.9)
    assert WINDOW.expected(0.5, 0.05) == pytest.approx(0.975)  # no skip at all is the picture itself
    assert WINDOW.expected(0.9, 0.3) == pytest.approx(0.95)
    assert WINDOW.expected(0.1, 0.0) == 1


def test_what_was_not_measured_is_not_allowed():
    assert WINDOW.expected(0.2, 0.1) == 0
    assert WINDOW.expected(0.9, 0.31) == 0
    assert not WINDOW.allows(task(2), tau=0.5)


def test_the_first_skip_counts_for_all_that_follow():
    assert WINDOW.allows(task(15), tau=0.97)
    assert not WINDOW.allows(task(15, skips=1, first_skip=0.5), tau=0.97)
    assert WINDOW.allows(task(15, skips=5, first_skip=0.5), tau=0.85)
    assert not WINDOW.allows(task(15, skips=6, first_skip=0.5), tau=0.85)


def test_rows_without_a_second_branch_and_finished_tasks_have_none_to_skip():
    assert not WINDOW.allows(task(15, guided=False), tau=0.0)
    assert not WINDOW.allows(task(20), tau=0.0)


@given(row=st.integers(0, 19), skips=st.integers(0, 6), low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_lower_threshold_never_forbids_what_a_higher_one_allows(row, skips, low, high):
    low, high = sorted((low, high))
    first = row / 20 if skips else None
    assert WINDOW.allows(task(row, skips, first), low) or not WINDOW.allows(task(row, skips, first), high)


@pytest.mark.parametrize(
    ("starts", "shares", "similarity"),
    [
        ((), (0.1,), ()),
        ((0.5, 0.25), (0.1,), ((1.0,), (1.0,))),
        ((0.5,), (0.0, 0.1), ((1.0, 1.0),)),
        ((0.5,), (0.1,), ((1.5,),)),
        ((0.5,), (0.1,), ((float("nan"),),)),
        ((0.5,), (0.1, 0.2), ((1.0,),)),
        ((0.5, 1.5), (0.1,), ((1.0,), (1.0,))),
    ],
)
def test_windows_that_cannot_be_are_refused(starts, shares, similarity):
    with pytest.raises(ServingError):
        SkipWindow(starts, shares, similarity)


def skipped(window, tau, begin, rows=40):
    """How many rows are skipped in all by who skips from a progress on whatever is allowed."""
    skips, first = 0, None
    for row in range(rows):
        now = task(row, skips, first, rows)
        if (first is not None or row >= begin * rows) and window.allows(now, tau):
            first = row / rows if first is None else first
            skips += 1
    return skips


@given(tau=st.floats(0.5, 1.0), other=st.floats(0, 1))
def test_no_other_beginning_lets_more_rows_be_skipped(tau, other):
    begin = WINDOW.begin(tau)
    assert skipped(WINDOW, tau, begin) >= skipped(WINDOW, tau, other) - 1  # shares are looked at in hundredths


def test_skipping_too_early_uses_up_what_is_allowed():
    assert skipped(WINDOW, 0.85, WINDOW.begin(0.85)) > 2 * skipped(WINDOW, 0.85, 0.25)


def test_where_nothing_is_allowed_skipping_never_begins():
    never = SkipWindow((0.0, 0.5), (0.1, 1.0), ((0.5, 0.5), (0.5, 0.5)))
    assert never.begin(1.0) == 1.0
    assert skipped(never, 1.0, never.begin(1.0)) == 0
