"""The Inception Score, against its definition and torchmetrics."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy
from torchmetrics.image.inception import InceptionScore

from headrace.errors import DataError
from headrace.evaluation.metrics.class_score import ClassScore, part_of


def test_agrees_with_the_definition_whatever_the_batches():
    logits = np.random.default_rng(0).normal(size=(103, 7)) * 3
    score = ClassScore(7, splits=4)
    for start in range(0, 103, 10):
        score.update(logits[start : start + 10])
    p = softmax(logits, axis=1)
    part = part_of(np.arange(103), 4)
    chosen = [p[part == k] for k in range(4)]
    parts = [np.exp(np.mean([entropy(row, rows.mean(axis=0)) for row in rows])) for rows in chosen]
    assert score.compute() == pytest.approx((np.mean(parts), np.std(parts)), rel=1e-12)


def test_agrees_with_torchmetrics_in_one_split():
    logits = np.random.default_rng(1).normal(size=(60, 6)) * 2
    reference = InceptionScore(feature=torch.nn.Flatten(), splits=1, normalize=False)
    reference.update(torch.from_numpy(logits).reshape(60, 6, 1, 1))
    score = ClassScore(6, splits=1)
    score.update(logits)
    assert score.compute()[0] == pytest.approx(float(reference.compute()[0]), rel=1e-6)


@pytest.mark.parametrize("order", ["sorted by class", "classes in turn"])
@pytest.mark.parametrize("classes", [5, 10, 100])
def test_certain_and_even_gives_nearly_the_number_of_classes_in_any_order(order, classes):
    """As many splits as classes, or a divisor of it, is where parts by position hold a class or two each."""
    certain = np.eye(classes) * 1000.0
    score = ClassScore(classes, splits=10)
    score.update(np.repeat(certain, 200, axis=0) if order == "sorted by class" else np.tile(certain, (200, 1)))
    mean, deviation = score.compute()
    assert 0.94 * classes < mean <= classes
    assert deviation < 0.02 * classes


def test_parts_are_of_nearly_equal_size_and_uncertain_classes_score_1():
    counts = np.bincount(part_of(np.arange(10_000), 10), minlength=10)
    assert counts.min() > 900
    assert counts.max() < 1100
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
