"""Decisions on blocks that lie inside one another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import tiny_networks
from headrace.errors import ModelError, PlanError
from headrace.models.nesting import check, consistent, nesting, skipped
from headrace.plan import Plan

# Block 0 stands alone; 2 lies inside 1, and 3 inside both.
INSIDE = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0]], bool)
OWN = ("own",) * 4
NAMES = tuple("abcd")


def plan_of(compute, guidance=1.0):
    rows = len(compute)
    return Plan(
        timestep=np.arange(rows, 0.0, -1), a=np.ones(rows), b=np.zeros((rows, 1)), compute=compute, guidance=guidance
    )


@st.composite
def decisions(draw):
    compute = draw(arrays(bool, st.tuples(st.integers(1, 9), st.just(4))))
    compute[0] = True
    return compute


def carried_out(compute, keep):
    """Runs the rows; fails where a value is missing. Returns what was evaluated and what was kept, [R, B] each."""
    values, evaluated, stored = {}, np.zeros_like(compute), np.zeros_like(compute)
    for row, block in np.ndindex(compute.shape):
        if not compute[row, INSIDE[block]].all():
            continue
        evaluated[row, block] = compute[row, block]
        if compute[row, block] and keep[row, block]:
            values[block], stored[row, block] = row, True
        elif not compute[row, block]:
            assert block in values, (row, block)
    return evaluated, stored


@given(decisions())
def test_joined_decisions_can_be_carried_out_and_keep_nothing_in_vain(compute):
    plan = plan_of(consistent(compute, INSIDE))
    check(plan, NAMES, INSIDE, OWN)
    evaluated, stored = carried_out(plan.compute, plan.keep)
    assert np.array_equal(consistent(plan.compute, INSIDE), plan.compute)
    assert np.array_equal(plan.compute[:, :2], compute[:, :2])
    for row, block in np.argwhere(stored):
        later = [r for r in range(row + 1, len(compute)) if plan.compute[r, INSIDE[block]].all()]
        assert later
        assert not plan.compute[later[0], block]
    reached = np.stack(
        [compute[:, INSIDE[b]].all(axis=1) if b < 3 else plan.compute[:, [1, 2]].all(axis=1) for b in range(4)], 1
    )
    assert (evaluated[reached] >= compute[reached]).all()  # what was wanted and reached is evaluated
    assert np.array_equal(skipped(plan.compute, INSIDE), reached & ~evaluated)


@given(decisions())
def test_what_is_not_refused_can_be_carried_out(compute):
    plan = plan_of(compute)
    try:
        check(plan, NAMES, INSIDE, OWN)
    except PlanError:
        with pytest.raises(AssertionError):
            stale(compute)
    else:
        carried_out(plan.compute, plan.keep)
        stale(compute)


def stale(compute):
    """Fails where a row reuses what an earlier row was to compute and did not reach."""
    for row, block in np.ndindex(compute.shape):
        if compute[row, INSIDE[block]].all() and not compute[row, block]:
            source = max(r for r in range(row) if compute[r, block])
            assert compute[source, INSIDE[block]].all()


def test_an_evaluation_that_is_not_reached_comes_later():
    inside = np.array([[0, 0], [1, 0]], bool)
    outer = [True, False, False, True, True, False]
    inner = [True, True, False, False, False, False]
    joined = consistent(np.column_stack([outer, inner]), inside)
    assert joined[:, 0].tolist() == outer
    assert joined[:, 1].tolist() == [True, True, True, True, False, True]
    assert plan_of(joined).keep[:, 1].tolist() == [False, False, False, True, False, False]
    assert skipped(joined, inside).tolist() == [[not o, r == 4] for r, o in enumerate(outer)]


def test_a_value_of_the_unconditional_branch_needs_a_guided_row():
    compute = np.array([[True], [True], [False]])
    alone = np.zeros((1, 1), bool)
    check(plan_of(compute, np.array([3.0, 3.0, 1.0])), ["x"], alone, ["unconditional"])
    with pytest.raises(PlanError, match=r"row 2.*unconditional"):
        check(plan_of(compute), ["x"], alone, ["unconditional"])
    check(plan_of(compute), ["x"], alone, ["mean"])


def test_blocks_lie_inside_what_their_modules_are_part_of():
    with torch.no_grad():
        network = tiny_networks.text_unet()
    attention = "down_blocks.0.attentions.0"
    blocks = ("branch.0.0", "branch.0.1", attention, f"{attention}.transformer_blocks.0.attn2", "up_blocks.1.resnets.1")
    inside = nesting(network, blocks)
    assert inside.astype(int).tolist() == [
        [0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0],  # a lower cut of the same level
        [1, 0, 0, 0, 0],  # on the way down before that lower cut
        [1, 0, 1, 0, 0],
        [0, 0, 0, 0, 0],  # the last layer of the way up is in no branch
    ]


def test_runs_of_transformer_blocks_contain_one_another_or_are_refused():
    with torch.no_grad():
        network = tiny_networks.pixart_transformer()
    inside = nesting(network, ("branch.0.2", "branch.0.1", "transformer_blocks.0"))
    assert inside.astype(int).tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
    long = type(network).from_config({**network.config, "num_layers": 4})
    with pytest.raises(ModelError, match="overlap"):
        nesting(long, ("branch.0.3", "branch.1.4"))
