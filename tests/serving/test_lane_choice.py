"""Which lane is taken, by how long its rounds take."""

from __future__ import annotations

import pytest

from headrace.serving.lane_choice import best_lane, lane_loads
from headrace.serving.measurement import Design, Load

LANES = ("interleaved", "threads")
FEW, MANY = Load((64, 64), 1, 1), Load((64, 64), 8, 1)


def times(threads):
    """Rounds of 1 and 2 seconds one after the other, and `threads` times as long in threads: one part or the other."""
    first = {("interleaved", FEW): (1.0, 0.2), ("interleaved", MANY): (2.0, 0.2)}
    return first | {("threads", FEW): (0.1, threads), ("threads", MANY): (2 * threads, 0.1)}


@pytest.mark.parametrize(("ratio", "lane"), [(0.5, "threads"), (0.98, "interleaved"), (2.0, "interleaved")])
def test_a_lane_is_taken_where_its_rounds_are_clearly_shorter(ratio, lane):
    chosen, figures = best_lane(LANES, times(ratio))
    assert chosen == lane
    assert figures == {"threads_over_interleaved": pytest.approx(ratio)}


def test_lanes_are_compared_on_rounds_of_both_kinds():
    loads = lane_loads(Design(((64, 64), (80, 64)), (0, 1, 4, 16), (0, 1), (1, 2, 4)))
    assert {(load.rows, load.chunks) for load in loads} == {(1, 1), (1, 4), (8, 1), (8, 4)}
    assert all(load.decodings == 1 and load.size == (64, 64) for load in loads)
    assert lane_loads(Design(((64, 64),), (0, 1), (0, 1), (1,))) == (FEW,)
