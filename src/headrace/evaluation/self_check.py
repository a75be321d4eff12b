"""Figures whose answer is known: a data set against itself, its other half, more of its kind, noise, one class."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from headrace.errors import DataError
from headrace.evaluation.feature_set import FeatureSet
from headrace.evaluation.figures import Figure, MetricOptions, figures
from headrace.evaluation.metrics.gaussian import frechet_distance
from headrace.pictures.entry import Entry

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
    classes: None = None

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


def self_checks(
    data: FeatureSet,
    noise: FeatureSet,
    held_out: FeatureSet | None = None,
    options: MetricOptions | None = None,
    radii: torch.Tensor | None = None,
) -> list[SelfCheck]:
    """Runs them all: the data set against itself, half against half, held-out pictures, noise, and one class.

    Distances between halves and to held-out pictures (None: left out) are the floor that no sampler can be measured
    below with so many pictures; noise and the most frequent class (left out where there are no two classes) are the
    ceiling. `radii`: `neighbour_radii` of the data set. Raises `DataError` for fewer than eight pictures.
    """
    if len(data) < _LEAST:
        raise DataError(f"a self-check of {len(data)} picture(s) is asked for", f"Give at least {_LEAST}")
    shuffled = _shuffled(data)
    one, other = (data.part(np.sort(half)) for half in (shuffled[::2], shuffled[1::2]))
    floor = _Found(tuple(figures(other, one, options)))
    ceiling = _Found(tuple(figures(noise, data, options, radii)))
    checks = [_itself(data, _Found(tuple(figures(data, data, options, radii)))), _halves(floor, ceiling)]
    if held_out is not None:
        checks.append(_held_out(_Found(tuple(figures(held_out, data, options, radii))), ceiling))
    checks.append(_noise(ceiling, floor))
    single = _single_class(data, options, radii)
    return checks if single is None else [*checks, single]


@dataclass(frozen=True)
class _Found:
    """Figures by what they stand for, under either of their names."""

    figures: tuple[Figure, ...]

    @property
    def distance(self) -> float:
        """The Frechet distance: it always comes first."""
        return self.figures[0].value

    @property
    def precision(self) -> float:
        return self._value("precision")

    @property
    def recall(self) -> float:
        return self._value("recall")

    def _value(self, metric: str) -> float:
        return next(figure.value for figure in self.figures if figure.metric == metric)


def _itself(data: FeatureSet, found: _Found) -> SelfCheck:
    same = found.distance < 1e-6 * float(np.trace(data.gaussian.covariance))
    passed = same and found.precision == found.recall == 1.0
    return SelfCheck("itself", found.figures, "distance 0, precision and recall 1", passed)


def _halves(found: _Found, ceiling: _Found) -> SelfCheck:
    expected = "the floor: less than half the distance of noise, precision and recall above 0.5"
    passed = found.distance < 0.5 * ceiling.distance and min(found.precision, found.recall) > 0.5
    return SelfCheck("its other half", found.figures, expected, passed)


def _held_out(found: _Found, ceiling: _Found) -> SelfCheck:
    expected = "the floor for samples: less than half the distance of noise, precision above 0.5"
    passed = found.distance < 0.5 * ceiling.distance and found.precision > 0.5
    return SelfCheck("held-out pictures", found.figures, expected, passed)


def _noise(found: _Found, floor: _Found) -> SelfCheck:
    expected = "the ceiling: more than twice the distance of the halves, precision or recall below 0.1"
    passed = found.distance > 2 * floor.distance and min(found.precision, found.recall) < 0.1
    return SelfCheck("noise", found.figures, expected, passed)


def _single_class(data: FeatureSet, options: MetricOptions | None, radii: torch.Tensor | None) -> SelfCheck | None:
    """Against as many pictures of all classes, so that the bias of few pictures is the same on both sides."""
    if data.labels is None:
        return None
    labels, counts = np.unique(data.labels[data.labels >= 0], return_counts=True)
    if len(labels) < 2 or counts.max() < _LEAST:
        return None
    label = int(labels[counts.argmax()])
    rows = np.flatnonzero(data.labels == label)
    mixed = frechet_distance(data.part(np.sort(_shuffled(data)[: len(rows)])).gaussian, data.gaussian)
    found = _Found(tuple(figures(data.part(rows), data, options, radii)))
    expected = f"a ceiling: further than as many pictures of all classes ({mixed:.4g})"
    return SelfCheck(f"its class {label}", found.figures, expected, found.distance > mixed)


def _shuffled(data: FeatureSet) -> np.ndarray:
    return np.random.default_rng(0).permutation(len(data))
