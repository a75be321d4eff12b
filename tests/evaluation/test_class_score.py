"""The Inception Score, against its definition and torchmetrics."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy
from torchmetrics.image.inception import InceptionScore

from headrace.errors import DataError
from headrace.evaluation.metrics.class_score import ClassScore


def test_agrees_with_the_definition_whatever_the_batches():
    logits = np.random.default_rng(0).normal(size=(103, 7)) * 3
    score = ClassScore(7, splits=4)
    for start in range(0, 103, 10):
        score.update(logits[start : start + 10])
    p = softmax(logits, axis=1)
    parts = [np.exp(np.mean([entropy(row, p[k::4].mean(axis=0)) for row in p[k::4]])) for k in range(4)]
    assert score.compute() == pytest.approx((np.mean(parts), np.std(parts)), rel=1e-12)


def test_agrees_with_torchmetrics_in_one_split():
    logits = np.random.default_rng(1).normal(size=(60, 6)) * 2
    reference = InceptionScore(feature=torch.nn.Flatten(), splits=1, normalize=False)
    reference.update(torch.from_numpy(logits).reshape(60, 6, 1, 1))
    score = ClassScore(6, splits=1)
    score.update(logits)
    assert score.compute()[0] == pytest.approx(float(reference.compute()[0]), rel=1e-6)


def test_certain_and_even_gives_the_number_of_classes_and_sorted_pictures_are_spread():
    score = ClassScore(5, splits=10)
    score.update(np.repeat(np.eye(5) * 1000.0, 100, axis=0))
    assert score.compute() == pytest.approx((5.0, 0.0))
    alike = ClassScore(5)
    alike.update(np.tile([1.0, 2.0, 3.0, 4.0, 5.0], (50, 1)))
    assert alike.compute() == pytest.approx((1.0, 0.0))


def test_fewer_pictures_than_splits_and_none():
    score = ClassScore(3, splits=10)
    with pytest.raises(DataError, match="no pictures"):
        score.compute()
    score.update(np.eye(3))
    assert score.compute()[0] == pytest.approx(1.0)
    with pytest.raises(DataError, match="infinite"):
        score.update(np.array([[np.inf, 0.0, 0.0]]))
