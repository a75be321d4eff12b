"""Improved precision and recall, against a naive implementation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

from headrace.errors import DataError
from headrace.evaluation.metrics.precision_recall import precision_recall


def naive(real, samples, k):
    def distances(x, y):
        return np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1))

    def share(queries, centres):
        radii = np.sort(distances(centres, centres), axis=1)[:, k]  # column 0 is the row itself
        return np.mean((distances(queries, centres) <= radii[None]).any(axis=1))

    return share(samples, real), share(real, samples)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(5, 40),
    m=st.integers(5, 40),
    k=st.integers(1, 4),
    chunk=st.integers(1, 50),
    seed=st.integers(0, 2**16),
    shift=st.sampled_from([0.0, 0.5, 2.0]),
)
def test_agrees_with_the_naive_one_whatever_the_chunks(n, m, k, chunk, seed, shift):
    random = np.random.default_rng(seed)
    real, samples = random.normal(size=(n, 3)), random.normal(size=(m, 3)) + shift
    assert precision_recall(real, samples, k, chunk) == pytest.approx(naive(real, samples, k))


def test_a_set_against_itself_noise_and_a_part_of_it():
    random = np.random.default_rng(0)
    real = random.normal(size=(300, 8)).astype(np.float32)
    assert precision_recall(real, real) == (1.0, 1.0)
    assert precision_recall(real, real + 1e3) == (0.0, 0.0)
    two_modes = np.concatenate([real, real + 50.0])
    assert precision_recall(two_modes, real) == (1.0, 0.5)  # one of them is missing
    assert precision_recall(real, two_modes) == (0.5, 1.0)


def test_duplicates_far_from_the_origin_are_inside_their_own_balls():
    """Four equal rows have balls of radius 0; rounding must not put them outside."""
    real = np.repeat(np.random.default_rng(1).normal(size=(10, 64)) * 100 + 1e4, 4, axis=0)
    assert precision_recall(real, real[::4].repeat(5, axis=0)) == (1.0, 1.0)


def test_too_few_pictures():
    with pytest.raises(DataError, match="at least 4"):
        precision_recall(np.zeros((3, 2)), np.zeros((9, 2)))


def test_agrees_with_the_integers_where_distances_tie():
    """On a grid nearly every distance is tied, and integers leave no doubt: what is at the radius is inside."""
    random = np.random.default_rng(2)
    for offset in (0, 10_000):
        real, samples = random.integers(0, 5, (60, 3)) + offset, random.integers(0, 6, (50, 3)) + offset
        squared = ((samples[:, None] - real[None]) ** 2).sum(-1)

        def radii(rows):
            return np.sort(((rows[:, None] - rows[None]) ** 2).sum(-1), axis=1)[:, 3]

        precision = (squared <= radii(real)[None]).any(axis=1).mean()
        recall = (squared <= radii(samples)[:, None]).any(axis=0).mean()
        assert (squared == radii(real)[None]).sum() > 50
        assert 0 < precision < 1
        assert precision_recall(real.astype(float), samples.astype(float), chunk=16) == (precision, recall)


def test_golden_values_of_the_reference_construction():
    """Points on a line, counted by hand.

    Real 0..5 with k = 3: radii 3, 2, 2, 2, 2, 3, so the balls cover [-3, 8]. Samples -4, -3, 2, 8, 9 with k = 3 have
    the radii 12, 11, 6, 10, 11: together they cover every real point.
    """
    real, samples = np.arange(6.0)[:, None], np.array([-4.0, -3.0, 2.0, 8.0, 9.0])[:, None]
    assert precision_recall(real, samples) == (0.6, 1.0)
    assert precision_recall(real, samples[[0, 0, 0, 0, 1]]) == (0.2, 0.0)  # four at -4 and their balls of radius 0


def test_memory_does_not_grow_with_the_number_of_pairs():
    """6,000 x 6,000 float64 distances would be 288 MB; the blocks of 512 take 2 MB each."""
    rows = np.random.default_rng(3).normal(size=(6000, 4)).astype(np.float32)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        assert precision_recall(rows, rows, chunk=512) == (1.0, 1.0)
    largest = max(event.self_cpu_memory_usage for event in recorded.events())
    assert 512 * 512 * 8 <= largest < 3 * 512 * 512 * 8
