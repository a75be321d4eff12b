"""What the study's pictures are worth: figures, and how much they owe to the choice of the pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headrace.evaluation.extractors.extractor import FeatureExtractor
from headrace.evaluation.features import NearestPictures
from headrace.evaluation.metrics.gaussian import Gaussian
from headrace.tuning.judges import features, frechet

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]
_RESAMPLES = 1000
_LEAST_ERROR = 1e-3  # of pixels of 0 to 255: equal pictures count 78 dB


@dataclass(frozen=True)
class Measure:
    """A figure of a set of pictures. `higher`: whether more is better. `label`: with its unit, for people."""

    name: str
    label: str
    higher: bool


RECALL = Measure("recall", "recall at 1", higher=True)
FRECHET = Measure("frechet", "Frechet distance to the real pictures", higher=False)
PSNR = Measure("psnr", "PSNR to the most plain steps, dB", higher=True)


@dataclass(frozen=True)
class Truth:
    """Real pictures, uint8 [M, H, W, 3], and which of them each made picture should be (none: no captions)."""

    pictures: Pixels
    own: NDArray[np.int64] | None
    extractor: FeatureExtractor


@dataclass(frozen=True, eq=False)
class Scores:
    """Figures by name, and for those that are means over pictures their values on resampled pictures [R]."""

    figures: Mapping[str, float]
    replicates: Mapping[str, Floats] = field(default_factory=dict)


class Judge:
    """Figures of sets of N pictures that were made of the same requests.

    With real pictures recall (where there are captions) and Frechet distance; always the distance to `reference`, the
    pictures of the most plain steps. Every set is resampled in the same way, so that differences can be told from
    noise.
    """

    def __init__(self, reference: Pixels, truth: Truth | None) -> None:
        self._reference, self._truth = reference, truth
        count = len(reference)
        drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=_RESAMPLES)
        self._weights: Floats = drawn / count
        self.measures: tuple[Measure, ...] = (PSNR,)
        if truth is not None:
            self.measures = (RECALL, FRECHET, PSNR) if truth.own is not None else (FRECHET, PSNR)
            self._nearest = NearestPictures(truth.pictures) if truth.own is not None else None
            self._real = Gaussian.of(features(truth.extractor, truth.pictures))

    def scores(self, made: Pixels) -> Scores:
        """Of one set, uint8 [N, H, W, 3]."""
        pairs = zip(made, self._reference, strict=True)
        squared = np.array([np.square(one.astype(np.float64) - other).mean() for one, other in pairs])
        kinds: list[tuple[Measure, Floats, Callable[[Floats], Floats]]] = [(PSNR, squared, _decibels)]
        figures: dict[str, float] = {}
        if self._truth is not None:
            figures[FRECHET.name] = frechet(self._truth.extractor, made, self._real)
            if self._truth.own is not None and self._nearest is not None:
                hits = (self._nearest.ranks(made, self._truth.own) == 0).astype(np.float64)
                kinds.append((RECALL, hits, lambda mean: mean))
        replicates = {}
        for measure, values, shown in kinds:
            figures[measure.name] = float(shown(np.array(values.mean())))
            replicates[measure.name] = shown(self._weights @ values)
        return Scores(figures, replicates)


def _decibels(error: Floats) -> Floats:
    """PSNR of mean squared errors."""
    return np.asarray(10.0 * np.log10(255.0**2 / np.maximum(error, _LEAST_ERROR)))
