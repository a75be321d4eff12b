"""Figures whose answer is known: a data set against itself, its other half, more of its kind, noise, one class."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace

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

    def value(self, metric: str) -> float:
        """A figure's number by its name among self-checks: "distance" is the Frechet distance, which comes first."""
        if metric == "distance":
            return self.figures[0].value
        return next(figure.value for figure in self.figures if figure.metric == metric)


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
    ceiling = _against_noise(data, noise, options, radii)
    checks = [_itself(data, options, radii), _halves(data, ceiling, options)]
    if held_out is not None:
        checks.append(_held_out(data, held_out, ceiling, options, radii))
    checks.append(ceiling)
    single = _single_class(data, options, radii)
    return checks if single is None else [*checks, single]


Options = MetricOptions | None
Radii = torch.Tensor | None


def _itself(data: FeatureSet, options: Options, radii: Radii) -> SelfCheck:
    found = SelfCheck("itself", tuple(figures(data, data, options, radii)), "distance 0, precision and recall 1", True)
    same = found.value("distance") < 1e-6 * float(np.trace(data.gaussian.covariance))
    return replace(found, passed=same and found.value("precision") == found.value("recall") == 1.0)


def _halves(data: FeatureSet, ceiling: SelfCheck, options: Options) -> SelfCheck:
    """Drawn at random: pictures may lie in an order, by class or in turn."""
    shuffled = _shuffled(data)
    one, other = (data.part(np.sort(half)) for half in (shuffled[::2], shuffled[1::2]))
    expected = "the floor: less than half the distance of noise, precision and recall above 0.5"
    found = SelfCheck("its other half", tuple(figures(other, one, options)), expected, True)
    near = found.value("distance") < 0.5 * ceiling.value("distance")
    return replace(found, passed=near and min(found.value("precision"), found.value("recall")) > 0.5)


def _held_out(
    data: FeatureSet, held_out: FeatureSet, ceiling: SelfCheck, options: Options, radii: Radii
) -> SelfCheck:
    expected = "the floor for samples: less than half the distance of noise, precision above 0.5"
    found = SelfCheck("held-out pictures", tuple(figures(held_out, data, options, radii)), expected, True)
    near = found.value("distance") < 0.5 * ceiling.value("distance")
    return replace(found, passed=near and found.value("precision") > 0.5)


def _against_noise(data: FeatureSet, noise: FeatureSet, options: Options, radii: Radii) -> SelfCheck:
    """The distance must exceed the pictures' own spread from their mean: noise is no part of the set."""
    expected = "the ceiling: a large distance, precision or recall below 0.1"
    found = SelfCheck("noise", tuple(figures(noise, data, options, radii)), expected, True)
    far = found.value("distance") > _NOISE_OF_SPREAD * float(np.trace(data.gaussian.covariance))
    return replace(found, passed=far and min(found.value("precision"), found.value("recall")) < 0.1)


def _single_class(data: FeatureSet, options: Options, radii: Radii) -> SelfCheck | None:
    """Against as many pictures of all classes, so that the bias of few pictures is the same on both sides."""
    if data.labels is None:
        return None
    labels, counts = np.unique(data.labels[data.labels >= 0], return_counts=True)
    if len(labels) < 2 or counts.max() < _LEAST:
        return None
    label = int(labels[counts.argmax()])
    rows = np.flatnonzero(data.labels == label)
    mixed = frechet_distance(data.part(np.sort(_shuffled(data)[: len(rows)])).gaussian, data.gaussian)
    expected = f"a ceiling: further than as many pictures of all classes ({mixed:.4g})"
    found = SelfCheck(f"its class {label}", tuple(figures(data.part(rows), data, options, radii)), expected, True)
    return replace(found, passed=found.value("distance") > mixed)


def _shuffled(data: FeatureSet) -> np.ndarray:
    return np.random.default_rng(0).permutation(len(data))
