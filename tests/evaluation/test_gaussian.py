"""The streamed Gaussian and the Frechet distance, against independent implementations."""

import itertools

import numpy as np
import pytest
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
