"""The kernel distance, against torchmetrics and a double loop."""

import numpy as np
import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from headrace.errors import DataError
from headrace.evaluation.metrics.kernel_distance import kernel_distance, squared_mmd


def rows(count, seed, shift=0.0):
    return np.random.default_rng(seed).normal(size=(count, 16)) + shift


def test_agrees_with_torchmetrics():
    first, second = rows(40, 0), rows(40, 1, shift=0.4)
    reference = poly_mmd(torch.from_numpy(first), torch.from_numpy(second), degree=3, gamma=None, coef=1.0)
    assert squared_mmd(first, second) == pytest.approx(float(reference), rel=1e-10)


def test_agrees_with_a_double_loop_for_sets_of_different_sizes():
    first, second = rows(9, 2), rows(13, 3, shift=0.2)

    def kernel(x, y):
        return (x @ y / 16 + 1) ** 3

    def within(points):
        return np.mean([kernel(x, y) for i, x in enumerate(points) for j, y in enumerate(points) if i != j])

    across = np.mean([kernel(x, y) for x in first for y in second])
    assert squared_mmd(first, second) == pytest.approx(within(first) + within(second) - 2 * across, rel=1e-10)


def test_subsets_give_mean_and_deviation_as_drawn_by_hand():
    """The same generator, the sums written out over rows and columns."""
    first, second = rows(30, 6), rows(25, 7, shift=0.3)
    random = np.random.default_rng(3)
    values = []
    for _ in range(4):
        ours, theirs = (set_[np.sort(random.choice(len(set_), 10, replace=False))] for set_ in (first, second))
        kernels = [((a @ b.T) / 16 + 1) ** 3 for a, b in ((ours, ours), (theirs, theirs), (ours, theirs))]
        off = [(k.sum() - np.diag(k).sum()) / 90 for k in kernels[:2]]
        values.append(off[0] + off[1] - 2 * kernels[2].mean())
    found = kernel_distance(first, second, subsets=4, subset_size=10, seed=3)
    assert found == pytest.approx((np.mean(values), np.std(values)), rel=1e-12)


def test_the_estimate_is_unbiased():
    """Small sets of one distribution lie on both sides of zero, and their mean is zero within its error."""
    pool = rows(400, 8)
    values = [squared_mmd(pool[start : start + 10], pool[start + 10 : start + 20]) for start in range(0, 400, 20)]
    assert min(values) < 0 < max(values)
    assert abs(np.mean(values)) < 2 * np.std(values) / np.sqrt(len(values))


def test_same_distribution_is_about_zero_and_a_shift_is_not():
    same, deviation = kernel_distance(rows(400, 4), rows(300, 5), subsets=20, subset_size=100)
    far, _ = kernel_distance(rows(400, 4), rows(300, 5, shift=1.0), subsets=20, subset_size=100)
    assert abs(same) < 2 * deviation
    assert far > 20 * deviation
    assert kernel_distance(rows(50, 4), rows(60, 5), subsets=5, seed=1) == kernel_distance(
        rows(50, 4), rows(60, 5), subsets=5, seed=1
    )


def test_whole_sets_are_compared_once():
    assert kernel_distance(rows(30, 0), rows(30, 1)) == (squared_mmd(rows(30, 0), rows(30, 1)), None)


def test_one_picture_is_refused():
    with pytest.raises(DataError, match="at least 2"):
        kernel_distance(rows(1, 0), rows(5, 1))
