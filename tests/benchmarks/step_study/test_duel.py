"""Fewer steps against cheaper ones, on curves whose crossing is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.benchmarks._step_study.curve import Curve
from headrace.benchmarks._step_study.duel import duel
from headrace.errors import DataError

COSTS = np.array([1.0, 10.0, 100.0])


def line(slope, shift=0.0, costs=COSTS, noise=None):
    """Quality `slope` times the logarithm of the cost, plus `shift`."""
    qualities = slope * np.log10(costs) + shift
    replicates = None if noise is None else qualities + np.array(noise)[:, None]
    return Curve.of(costs, qualities, replicates)


def test_a_curve_is_linear_in_the_logarithm_of_the_cost_and_ends_where_its_points_do():
    quality, again = line(1.0).at(np.array([0.5, 1.0, 31.6227766, 100.0, 101.0]))
    assert quality[1:4] == pytest.approx([0.0, 1.5, 2.0])
    assert np.isnan(quality[[0, 4]]).all()
    assert again.shape == (0, 5)
    assert Curve.of([100, 1], [2, 0], [[2, 0]]).at(np.array([10.0]))[1] == pytest.approx(np.array([[1.0]]))


def test_the_share_of_the_range_where_cheaper_steps_win():
    """The lines cross at cost 10, the middle of 1 to 100 in the logarithm."""
    found = duel(line(1.0), [line(0.5, shift=0.5)])
    assert (found.low, found.high) == (1.0, 100.0)
    assert found.wins == pytest.approx(0.5, abs=0.01)
    assert found.loses == pytest.approx(0.5, abs=0.01)
    assert found.difference[0] == pytest.approx(0.5)
    assert found.difference[-1] == pytest.approx(-0.5)


def test_only_the_costs_that_both_reach_are_compared():
    cheaper = line(1.0, shift=1.0, costs=np.array([0.3, 3.0]))
    found = duel(line(1.0), [cheaper])
    assert (found.low, found.high) == (1.0, 3.0)
    assert (found.wins, found.verdict) == (1.0, "cheaper steps")
    assert duel(line(1.0), [line(1.0, costs=np.array([0.1, 0.2]))]) is None
    assert duel(line(1.0), []) is None


def test_of_several_ways_the_best_at_each_cost_counts():
    early, late = line(0.0, shift=1.5), line(2.0, shift=-1.5)
    found = duel(line(1.0), [early, late])
    assert duel(line(1.0), [early]).wins == pytest.approx(0.75, abs=0.01)
    assert duel(line(1.0), [late]).wins == pytest.approx(0.25, abs=0.01)
    assert found.wins == pytest.approx(1.0, abs=0.01)


def test_ways_that_reach_different_costs_fill_one_another_up_and_a_gap_is_left_out():
    below, above = (line(1.0, shift=1.0, costs=np.array(ends)) for ends in ([1.0, 2.0], [50.0, 100.0]))
    found = duel(line(1.0), [below, above])
    assert not ((found.costs > 2.0) & (found.costs < 50.0)).any()
    assert (found.costs[0], found.costs[-1]) == (1.0, 100.0)
    assert found.wins == 1.0


def test_a_difference_within_the_noise_is_undecided():
    noise = np.linspace(-1, 1, 101)
    found = duel(line(1.0, noise=0 * noise), [line(1.0, shift=0.1, noise=noise)])
    assert (found.wins, found.loses, found.undecided, found.ahead) == (0.0, 0.0, 1.0, 1.0)
    assert found.verdict == "neither"
    clear = duel(line(1.0, noise=0 * noise), [line(1.0, shift=1.1, noise=noise)])
    assert (clear.wins, clear.verdict) == (1.0, "cheaper steps")


def test_what_all_resamples_share_is_no_noise():
    """Both curves go up and down together, as with resamples of the same pictures: the difference is certain."""
    noise = np.linspace(-5, 5, 101)
    found = duel(line(1.0, noise=noise), [line(1.0, shift=-0.1, noise=noise)])
    assert (found.loses, found.verdict) == (1.0, "fewer steps")


@given(
    st.lists(st.tuples(st.floats(0.1, 100), st.floats(-5, 5)), min_size=2, max_size=6),
    st.lists(st.tuples(st.floats(0.1, 100), st.floats(-5, 5)), min_size=2, max_size=6),
)
def test_shares_are_shares_and_exchanging_the_two_exchanges_them(first, second):
    one, other = (Curve.of(*zip(*points, strict=True)) for points in (first, second))
    found, turned = duel(one, [other]), duel(other, [one])
    assert (found is None) == (turned is None)
    if found is None:
        return
    assert 0 <= found.wins <= 1
    assert found.wins + found.loses + found.undecided == pytest.approx(1.0)
    assert (found.wins, found.loses) == pytest.approx((turned.loses, turned.wins))


@pytest.mark.parametrize(("order", "unit"), [([2, 0, 1], 1.0), ([0, 1, 2], 1e9)])
def test_the_order_of_points_and_the_unit_of_cost_do_not_matter(order, unit):
    def turned(curve):
        return Curve.of(unit * curve.costs[order], curve.qualities[order])

    plain, cheaper = line(1.0), line(0.5, shift=0.5)
    assert duel(turned(plain), [turned(cheaper)]).wins == pytest.approx(duel(plain, [cheaper]).wins, abs=0.01)


@pytest.mark.parametrize(
    ("costs", "qualities", "replicates"),
    [
        ([], [], None),
        ([1.0], [1.0, 2.0], None),
        ([0.0], [1.0], None),
        ([1.0, np.nan], [1.0, 2.0], None),
        ([1.0, 2.0], [1.0, 2.0], [[1.0]]),
    ],
)
def test_what_is_no_curve_is_refused(costs, qualities, replicates):
    with pytest.raises(DataError):
        Curve.of(costs, qualities, replicates)
