"""Figures whose answer is known: a data set against itself, its other half, noise, and one of its classes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from headrace.errors import DataError
from headrace.evaluation.feature_set import FeatureSet
from headrace.evaluation.figures import Figure, MetricOptions, figures
from headrace.evaluation.pictures import Entry

_LEAST = 8  # pictures, so that halves have enough for precision and recall


@dataclass(frozen=True)
class SelfCheck:
    """One comparison: what `against`, its figures, what they ought to show, and whether they do."""

    against: str
    figures: tuple[Figure, ...]
    expected: str
    passed: bool


@dataclass(frozen=True)
class NoiseSource:
    """`count` pictures of uniform noise, `size` (height, width), always the same ones."""

    count: int
    size: tuple[int, int]
    name: str = "noise"

    def __len__(self) -> int:
        return self.count

    def entries(self) -> Iterator[Entry]:
        """Every picture."""
        random = np.random.default_rng(0)
        for number in range(self.count):
            encoded = io.BytesIO()
            pixels = random.integers(0, 256, (*self.size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(encoded, "PNG", compress_level=0)
            yield Entry(f"noise {number}", encoded.getvalue())


def self_checks(data: FeatureSet, noise: FeatureSet, options: MetricOptions | None = None) -> list[SelfCheck]:
    """Runs them all; the class is the most frequent one, left out where the set has no two of them.

    The distance between the halves is the floor that no sampler can be measured below with so many pictures. Raises
    `DataError` for fewer than eight pictures.
    """
    if len(data) < _LEAST:
        raise DataError(f"a self-check of {len(data)} picture(s) is asked for", f"Give at least {_LEAST}")
    shuffled = np.random.default_rng(0).permutation(len(data))  # pictures may lie in an order, by class or in turn
    one, other = (data.part(np.sort(half)) for half in (shuffled[::2], shuffled[1::2]))
    itself = tuple(figures(data, data, options))
    floor = tuple(figures(other, one, options))
    ceiling = tuple(figures(noise, data, options))
    scale = float(np.trace(data.gaussian.covariance))
    checks = [
        SelfCheck(
            "itself",
            itself,
            "distance 0, precision and recall 1",
            _distance(itself) < 1e-6 * scale and _value(itself, "precision") == _value(itself, "recall") == 1.0,
        ),
        SelfCheck(
            "its other half",
            floor,
            "a small distance: the floor",
            _distance(floor) < 0.5 * _distance(ceiling) and _value(floor, "precision") > 0.5,
        ),
        SelfCheck(
            "noise",
            ceiling,
            "a large distance, precision or recall near 0",
            _distance(ceiling) > 2 * _distance(floor)
            and min(_value(ceiling, "precision"), _value(ceiling, "recall")) < 0.1,
        ),
    ]
    single = _most_frequent_class(data)
    if single is None:
        return checks
    label, rows = single
    found = tuple(figures(data.part(rows), data, options))
    mixed = tuple(figures(data.part(np.sort(shuffled[: len(rows)])), data, options))
    expected = f"further away than as many pictures of all classes (distance {_distance(mixed):.4g})"
    return [*checks, SelfCheck(f"its class {label}", found, expected, _distance(found) > _distance(mixed))]


def _most_frequent_class(data: FeatureSet) -> tuple[int, np.ndarray] | None:
    if data.labels is None:
        return None
    labels, counts = np.unique(data.labels[data.labels >= 0], return_counts=True)
    if len(labels) < 2 or counts.max() < _LEAST:
        return None
    label = int(labels[counts.argmax()])
    return label, np.flatnonzero(data.labels == label)


def _distance(found: tuple[Figure, ...]) -> float:
    """The Frechet distance, under either name; it always comes first."""
    return found[0].value


def _value(found: tuple[Figure, ...], metric: str) -> float:
    return next(figure.value for figure in found if figure.metric == metric)
