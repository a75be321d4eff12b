"""The streamed Gaussian and the Frechet distance, against independent implementations."""

import itertools

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.image.fid import FrechetInceptionDistance

from headrace.errors import DataError
from headrace.evaluation.metrics.gaussian import Gaussian, frechet_distance


def correlated(count, dimension, seed, shift=0.0):
    random = np.random.default_rng(seed)
    return random.normal(size=(count, dimension)) @ random.normal(size=(dimension, dimension)) + shift


class AsGiven(torch.nn.Module):
    """Takes features for pictures: [N, 3, 1, D/3] -> [N, D]."""

    def __init__(self, dimension):
        super().__init__()
        self.num_features = dimension

    def forward(self, pictures):
        return pictures.flatten(1)


def torchmetrics_fid(first, second):
    dimension = first.shape[1]
    metric = FrechetInceptionDistance(feature=AsGiven(dimension), normalize=True, input_img_size=(3, 1, dimension // 3))
    metric.set_dtype(torch.float64)
    metric.used_custom_model = True
    for rows, real in ((first, True), (second, False)):
        metric.update(torch.from_numpy(rows).reshape(len(rows), 3, 1, -1), real=real)
    return float(metric.compute())


@pytest.mark.parametrize(("count", "dimension"), [(200, 12), (500, 48)])
def test_agrees_with_torchmetrics_on_fixed_features(count, dimension):
    first, second = correlated(count, dimension, 1), correlated(count + 30, dimension, 2, shift=0.3)
    ours = frechet_distance(Gaussian.of(first), Gaussian.of(second))
    assert ours == pytest.approx(torchmetrics_fid(first, second), rel=1e-9)


def heusel(first, second):
    """The distance as it was first implemented: scipy's root of the product, real part."""
    c1, c2 = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    root = scipy.linalg.sqrtm(c1 @ c2).real
    return float(((first.mean(0) - second.mean(0)) ** 2).sum() + np.trace(c1 + c2 - 2 * root))


@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_agrees_with_the_first_implementation(offset):
    first, second = correlated(300, 20, 5, shift=offset), correlated(200, 20, 6, shift=offset + 0.5)
    ours = frechet_distance(Gaussian.of(first, chunk=64), Gaussian.of(second, chunk=7))
    assert ours == pytest.approx(heusel(first, second), rel=1e-8)
    assert frechet_distance(Gaussian.of(second), Gaussian.of(first)) == pytest.approx(ours, rel=1e-10)


def test_degenerate_covariances():
    """Constant features, one direction only, and fewer pictures than dimensions, where a matrix root is hard to find.

    In one direction u the traces are variances: (s1 - s2)^2 for the same u, s1^2 + s2^2 for orthogonal ones.
    """
    constant = np.tile(np.arange(5.0), (9, 1))
    assert frechet_distance(Gaussian.of(constant), Gaussian.of(constant + 1.0)) == pytest.approx(5.0, rel=1e-12)
    values = np.random.default_rng(7).normal(size=50)
    deviation = values.std(ddof=1)
    along, across = np.outer(values, [1.0, 0, 0]), np.outer(values, [0, 2.0, 0])
    shift = (values.mean() ** 2) * (1 + 4)
    orthogonal = deviation**2 * (1 + 4) + shift
    assert frechet_distance(Gaussian.of(along), Gaussian.of(across)) == pytest.approx(orthogonal, rel=1e-12)
    same = (deviation * 2) ** 2 + (2 * values.mean()) ** 2
    assert frechet_distance(Gaussian.of(along), Gaussian.of(3 * along)) == pytest.approx(same, rel=1e-12)
    few, other = correlated(10, 30, 8), correlated(12, 30, 9)
    product = np.linalg.eigvals(np.cov(few, rowvar=False) @ np.cov(other, rowvar=False))
    traces = np.trace(np.cov(few, rowvar=False)) + np.trace(np.cov(other, rowvar=False))
    expected = ((few.mean(0) - other.mean(0)) ** 2).sum() + traces - 2 * np.sqrt(product.real.clip(0)).sum()
    assert frechet_distance(Gaussian.of(few), Gaussian.of(other)) == pytest.approx(expected, rel=1e-4)


def test_few_pictures_bias_it_upwards():
    """Both sets from one distribution: the true distance is 0, and 40 pictures in 30 dimensions are far from it."""
    found = [
        frechet_distance(Gaussian.of(correlated_like(n, 1)), Gaussian.of(correlated_like(n, 2))) for n in (40, 4000)
    ]
    assert found[0] > 10 * found[1] > 0


def correlated_like(count, seed):
    return np.random.default_rng(seed).normal(size=(count, 30))


def test_agrees_with_the_closed_form_of_commuting_covariances():
    """Diagonal covariances: the sum of squared differences of means and of standard deviations."""
    first, second = Gaussian(3), Gaussian(3)
    first.count = second.count = 11
    first.scatter, second.scatter = 10 * np.diag([1.0, 4.0, 9.0]), 10 * np.diag([4.0, 4.0, 1.0])
    second.mean = np.array([1.0, -2.0, 0.0])
    assert frechet_distance(first, second) == pytest.approx((1 + 4) + (1 + 0 + 4), rel=1e-12)


def test_singular_covariances_need_no_regularisation():
    """Ten pictures in 40 dimensions, shifted by a vector: only the shift remains."""
    rows = correlated(10, 40, 3)
    assert frechet_distance(Gaussian.of(rows), Gaussian.of(rows)) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(Gaussian.of(rows), Gaussian.of(rows + 2.0)) == pytest.approx(160.0, rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 60), max_size=5), offset=st.sampled_from([0.0, 1e6]))
def test_batches_of_any_sizes_give_the_statistics_of_the_whole(cuts, offset):
    rows = correlated(60, 5, 4, shift=offset)
    streamed, halves = Gaussian(5), (Gaussian(5), Gaussian(5))
    edges = [0, *sorted(cuts), 60]
    for index, (start, end) in enumerate(itertools.pairwise(edges)):
        streamed.update(rows[start:end])
        halves[index % 2].update(rows[start:end])
    halves[0].merge(halves[1])
    for fitted in (streamed, halves[0]):
        assert fitted.count == 60
        np.testing.assert_allclose(fitted.mean, rows.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(fitted.covariance, np.cov(rows, rowvar=False), rtol=1e-6, atol=1e-6)


def test_what_has_no_distance_is_refused():
    with pytest.raises(DataError, match="3 and 4 dimensions"):
        frechet_distance(Gaussian.of(np.eye(3)), Gaussian.of(np.eye(4)))
    with pytest.raises(DataError, match="1 picture"):
        frechet_distance(Gaussian.of(np.ones((1, 3))), Gaussian.of(np.eye(3)))
    with pytest.raises(DataError, match="NaN"):
        Gaussian.of(np.array([[1.0, np.nan]]))
