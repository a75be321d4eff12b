"""Which rows share an evaluation, and how they stand in the call."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.engine.grouping import FusedRow, Group, cheapest, evaluation_cost, group
from headrace.engine.layout import lay_out
from headrace.models.denoiser import CONDITIONAL, UNCONDITIONAL

FACTORS = st.sets(st.integers(1, 9), min_size=1, max_size=4)


@st.composite
def crowds(draw):
    factors = draw(FACTORS)
    row = st.builds(
        FusedRow,
        st.sampled_from(sorted(factors)),
        st.sampled_from([999.0, 500.0, 0.5]),
        st.sampled_from([1.0, 0.25]),
        st.booleans(),
        st.sampled_from([(0.0,), (1.0,)]),
    )
    return factors, draw(st.lists(row, max_size=40))


def told(row):
    return row.timestep, row.input_scale, row.keys


@given(crowds())
def test_every_row_is_in_one_group_of_its_own_timestep_at_no_larger_factor_than_its_own(crowd):
    factors, rows = crowd
    groups = group(rows, factors)
    assert sorted(place for one in groups for place in one.members) == list(range(len(rows)))
    for one in groups:
        assert one.fusion in factors
        assert 1 <= len(one.members) <= one.fusion
        assert len({told(rows[place]) for place in one.members}) == 1
        assert all(one.fusion <= rows[place].fusion for place in one.members)
    assert [one.fusion for one in groups] == sorted((one.fusion for one in groups), reverse=True)


@given(crowds())
def test_no_more_evaluations_than_with_every_factor_by_itself(crowd):
    factors, rows = crowd
    alone = {}
    for row in rows:
        alone[row.fusion, told(row)] = alone.get((row.fusion, told(row)), 0) + 1
    assert len(group(rows, factors)) <= sum(-(-count // fusion) for (fusion, _), count in alone.items())


@given(crowds())
def test_guided_rows_stand_together(crowd):
    factors, rows = crowd
    groups = group(rows, factors)
    for fusion in factors - {1}:
        mixed = {}
        for one in groups:
            guided = {rows[place].guided for place in one.members}
            if one.fusion == fusion and len(guided) == 2:
                mixed[told(rows[one.members[0]])] = mixed.get(told(rows[one.members[0]]), 0) + 1
        assert all(count == 1 for count in mixed.values())


def groups_of(count, factors, fusion=4, **changes):
    return group([FusedRow(fusion, 500.0, 1.0, **changes)] * count, factors)


@pytest.mark.parametrize(
    ("left", "factors", "expected"),
    [
        (3, (1, 2, 4), [(4, 3)]),  # one evaluation with a place to spare, and not 2 + 1
        (2, (1, 2, 4), [(2, 2)]),
        (1, (1, 2, 4), [(1, 1)]),
        (1, (2, 4), [(2, 1)]),
        (1, (4,), [(4, 1)]),
        (2, (1, 4), [(4, 2)]),
        (3, (1, 2), [(2, 2), (1, 1)]),
    ],
)
def test_a_short_group_falls_back_or_is_padded_whichever_is_cheaper(left, factors, expected):
    found = groups_of(left, factors, fusion=max(factors))
    assert [(one.fusion, len(one.members)) for one in found] == expected
    if max(factors) == 4:
        whole = groups_of(8 + left, factors)
        assert [(one.fusion, len(one.members)) for one in whole] == [(4, 4), (4, 4), *expected]


def test_rows_that_fall_back_join_those_whose_own_factor_it_is():
    rows = [FusedRow(4, 7.0, 1.0)] * 2 + [FusedRow(2, 7.0, 1.0)] * 2 + [FusedRow(1, 7.0, 1.0)]
    assert group(rows, (1, 2, 4)) == [Group(2, (0, 1)), Group(2, (2, 3)), Group(1, (4,))]
    rows = [FusedRow(4, 7.0, 1.0), FusedRow(1, 9.0, 1.0), FusedRow(1, 7.0, 1.0)]
    assert group(rows, (1, 2, 4)) == [Group(1, (0,)), Group(1, (1,)), Group(1, (2,))]
    odd = [FusedRow(3, 7.0, 1.0)] * 2 + [FusedRow(2, 7.0, 1.0)]
    assert group(odd, (1, 2, 3)) == [Group(2, (0, 1)), Group(1, (2,))]


def test_rows_that_are_told_different_things_do_not_fuse():
    rows = [FusedRow(2, 7.0, 1.0), FusedRow(2, 7.5, 1.0), FusedRow(2, 7.0, 0.5), FusedRow(2, 7.0, 1.0)]
    assert group(rows, (2,)) == [Group(2, (0, 3)), Group(2, (1,)), Group(2, (2,))]


def test_costs():
    assert cheapest(3, (1, 2, 4)) == 4
    assert cheapest(1, (1, 2, 4)) == 1
    assert evaluation_cost(4) < 2 * evaluation_cost(1)
    assert evaluation_cost(4) > evaluation_cost(2) > 1


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4)), min_size=1, max_size=8))
def test_a_layout_holds_whole_groups_and_gives_every_slot_its_own_output(groups):
    sizes = [size for size, _ in groups]
    guided = np.array([place < some for size, some in groups for place in range(size)])
    layout = lay_out(sizes, guided, fusion=4)
    wanted = layout.sources[layout.outputs]
    assert wanted.tolist() == [*range(sum(sizes)), *np.flatnonzero(guided)]
    assert layout.branches[layout.outputs].tolist() == [CONDITIONAL] * sum(sizes) + [UNCONDITIONAL] * guided.sum()
    of_slot = np.repeat(np.arange(len(sizes)), sizes)
    for sources, branches in zip(layout.sources.reshape(-1, 4), layout.branches.reshape(-1, 4), strict=True):
        assert len(set(of_slot[sources])) == len(set(branches)) == 1  # no other group's slot is ever padding
    assert layout.padded.tolist() == [
        size < 4 or (place < some and some % 4 != 0 and some < size) for size, some in groups for place in range(size)
    ]


def test_without_fusion_a_layout_is_both_branches_one_behind_the_other():
    layout = lay_out([1] * 4, np.array([True, False, True, False]))
    assert layout.sources.tolist() == [0, 1, 2, 3, 0, 2]
    assert layout.plain
    assert not layout.padded.any()
    assert not lay_out([3], np.array([False] * 3), 4).plain
    assert lay_out([3], np.array([False] * 3), 4).sources.tolist() == [0, 1, 2, 0]
