"""Works that share a processor, against time stepped through in small pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.serving.sharing import level, share_at_end

works = st.lists(st.floats(0.01, 10), min_size=1, max_size=6)


@given(works, st.floats(0, 1))
def test_at_a_level_the_wanted_share_is_done(works, share):
    reached = level(works, share)
    assert sum(min(work, reached) for work in works) == pytest.approx(share * sum(works), abs=1e-9)


@given(works, st.data())
def test_a_work_is_done_when_its_level_is_reached(works, data):
    work = data.draw(st.sampled_from(works))
    assert level(works, share_at_end(works, work)) == pytest.approx(work)


def test_equal_works_end_together_and_the_longest_last():
    assert share_at_end([2.0, 2.0, 2.0], 2.0) == 1.0
    assert share_at_end([1.0, 3.0], 1.0) == 0.5
    assert share_at_end([1.0, 3.0], 3.0) == 1.0
