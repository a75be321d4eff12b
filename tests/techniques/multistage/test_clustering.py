"""Cuts of the time line: against exhaustive search, and against the figures of the paper that need no data."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from headrace.errors import CalibrationError
from headrace.techniques.multistage.calibrate import stages_by_snr, stages_by_time
from headrace.techniques.multistage.clustering import (
    centre_costs,
    cut,
    cut_around_centres,
    dissimilarity_costs,
    find_ends,
)
from headrace.techniques.multistage.kernel import kernel_of


def exhaustive(costs, stages, least=1, most=None):
    """The least total cost of all ways to cut."""
    nodes = len(costs)
    most = nodes if most is None else most
    ways = [list(pairwise((0, *inner, nodes))) for inner in combinations(range(1, nodes), stages - 1)]
    allowed = [way for way in ways if all(least <= j - i <= most for i, j in way)]
    return min((sum(costs[i, j] for i, j in way) for way in allowed), default=None)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), nodes=st.integers(2, 9), objective=st.sampled_from(["sum", "mean"]))
def test_dynamic_programming_finds_what_exhaustive_search_finds(data, nodes, objective):
    similarity = data.draw(arrays(float, (nodes, nodes), elements=st.floats(0, 1)))
    stages = data.draw(st.integers(1, nodes))
    costs = dissimilarity_costs(similarity, objective)
    cuts = cut(costs, stages)
    assert len(cuts) == stages - 1
    assert list(cuts) == sorted(set(cuts))
    found = sum(costs[i, j] for i, j in pairwise((0, *cuts, nodes)))
    assert found == pytest.approx(exhaustive(costs, stages), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), nodes=st.integers(3, 9), least=st.integers(1, 3), most=st.integers(1, 5))
def test_groups_keep_to_their_limits(data, nodes, least, most):
    costs = centre_costs(data.draw(arrays(float, (nodes, nodes), elements=st.floats(0, 1))))
    expected = exhaustive(costs, 3, least, most)
    if expected is None:
        with pytest.raises(CalibrationError, match="do not make 3 groups"):
            cut(costs, 3, least, most)
        return
    edges = (0, *cut(costs, 3, least, most), nodes)
    assert all(least <= j - i <= most for i, j in pairwise(edges))
    assert sum(costs[i, j] for i, j in pairwise(edges)) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(nodes=st.integers(1, 7), seed=st.integers(0, 1000))
def test_costs_are_those_of_their_definitions(nodes, seed):
    table = np.random.default_rng(seed).random((nodes, nodes))
    sums, means, centres = dissimilarity_costs(table, "sum"), dissimilarity_costs(table, "mean"), centre_costs(table)
    for i in range(nodes):
        for j in range(i + 1, nodes + 1):
            inside = 1 - table[i:j, i:j]
            assert sums[i, j] == pytest.approx(inside.sum())
            assert means[i, j] == pytest.approx(inside.mean())
            assert centres[i, j] == pytest.approx(table[i + (j - i) // 2, i:j].sum())


def test_blocks_that_are_similar_inside_are_the_groups():
    similarity = np.zeros((9, 9))
    for begin, end in ((0, 2), (2, 7), (7, 9)):
        similarity[begin:end, begin:end] = 1
    assert cut(dissimilarity_costs(similarity), 3) == (2, 7)
    assert cut_around_centres(1 - similarity, 3) == (2, 7)


def test_algorithm_1_takes_the_mean_up_to_a_time_and_from_one_on():
    times = np.array([0.9, 0.1, 0.5, 0.3, 0.7])
    to_image = np.array([0.0, 1.0, 0.5, 1.0, 0.1])
    to_noise = np.array([1.0, 0.0, 0.0, 0.0, 0.6])
    # Sorted: 1, 1, .5, .1, 0 up to each time: 1, 1, .83, .65, .52; 0, 0, 0, .6, 1 from each on: .32, .4, .53, .8, 1.
    assert find_ends(times, to_image, to_noise, 0.8) == (0.5, 0.7)
    assert find_ends(times, to_image, to_noise, 0.9) == (0.3, 0.9)


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), alpha=st.floats(0.05, 0.95))
def test_algorithm_1_is_the_literal_grid_search(seed, alpha):
    random = np.random.default_rng(seed)
    times, to_image, to_noise = random.random((3, 20))
    early = [time for time in times if to_image[times <= time].mean() >= alpha]
    late = [time for time in times if to_noise[times >= time].mean() >= alpha]
    if early and late and max(early) < min(late):
        assert find_ends(times, to_image, to_noise, alpha) == (max(early), min(late))
    else:
        with pytest.raises(CalibrationError):
            find_ends(times, to_image, to_noise, alpha)


@pytest.mark.parametrize("alpha", [0, 1, -0.5, 90, float("nan")])
def test_an_alpha_out_of_range_is_refused(alpha):
    with pytest.raises(CalibrationError, match="alpha"):
        find_ends(np.ones(2), np.ones(2), np.ones(2), alpha)


def test_the_paper_s_figures_that_need_no_data():
    """Table 4: timestep 0.330 and 0.670, SNR 0.348 and 0.709."""
    kernel = kernel_of("vp")
    assert stages_by_time(3, kernel).stages.boundaries == pytest.approx((0.330, 0.670), abs=5e-4)
    assert stages_by_snr(3, kernel).stages.boundaries == pytest.approx((0.348, 0.709), abs=5e-4)


def test_boundaries_of_the_edm_kernel_have_the_same_signal_to_noise_ratio():
    kernel = kernel_of("edm")
    stages = stages_by_time(3, kernel).stages
    assert stages.sigmas == pytest.approx(kernel.sigma(np.array([0.33, 0.67])))
    assert kernel.sigma([0, 1]) == pytest.approx([0.002, 80])


@pytest.mark.parametrize("stages", [1, 0, -1, 80])
def test_numbers_of_stages_that_there_are_not(stages):
    with pytest.raises(CalibrationError):
        stages_by_time(stages, kernel_of("vp")) if stages < 80 else cut(np.zeros((4, 5)), stages)


def test_a_kernel_that_there_is_not():
    with pytest.raises(CalibrationError, match="'vpp'"):
        kernel_of("vpp")
