"""One evaluation: samples against a data set, with every extractor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from headrace.errors import DataError
from headrace.evaluation.cache import FeatureCache, features_once
from headrace.evaluation.extraction import Progress
from headrace.evaluation.extractors.extractor import FeatureExtractor
from headrace.evaluation.extractors.transformers_folder import Clip
from headrace.evaluation.feature_set import FeatureSet
from headrace.evaluation.figures import Figure, MetricOptions, figures, warnings
from headrace.evaluation.metrics.paired import cosine
from headrace.evaluation.metrics.precision_recall import neighbour_radii
from headrace.evaluation.self_check import NoiseSource, SelfCheck, self_checks
from headrace.evaluation.sizes import first_size, size_warnings
from headrace.pictures.decoding import Size
from headrace.pictures.entry import PictureSource
from headrace.pictures.source import digest

# Told what is being done, how many pictures of it are done, and how many there are.
Watch = Callable[[str, int, int], None]
_MOST_NOISE = 2000


@dataclass
class Findings:
    """What an evaluation found. `skipped`: pictures that could not be read, named once each."""

    figures: list[Figure] = field(default_factory=list)
    checks: list[SelfCheck] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    data_digest: str | None = None
    data_pictures: int = 0


class Evaluation:
    """A data set (or None) that sets of samples are measured against, one after another, with some extractors.

    What is known of the data set is computed once. A `watch` is told how far a call is.
    """

    def __init__(
        self,
        data: PictureSource | None,
        extractors: Sequence[FeatureExtractor],
        cache: FeatureCache,
        options: MetricOptions | None = None,
    ) -> None:
        self._data = data
        self._extractors = extractors
        self._cache = cache
        self._options = options or MetricOptions()
        self._digest = None if data is None else digest(data)
        self._known: dict[tuple[str, Size], tuple[FeatureSet, torch.Tensor | None]] = {}

    def measure(self, samples: PictureSource, watch: Watch | None = None) -> Findings:
        """Figures of the samples: against the data set, where there is one; class and CLIP scores without it.

        The first sample's size is what all pictures are brought to. Raises `DataError` below two readable pictures.
        """
        found = Findings(data_digest=self._digest)
        size = first_size(samples)
        found.warnings += size_warnings(samples, self._data, size)
        for extractor in self._extractors:
            progress = _progress(watch, f"samples, {extractor.name}", samples)
            of_samples = features_once(samples, extractor, size, progress)
            add_new(of_samples.skipped, found.skipped)
            if self._data is not None:
                of_data, radii = self._of_data(extractor, size, found, watch)
                found.figures += figures(of_samples, of_data, self._options, radii)
                add_new(warnings(of_samples, of_data, self._options.neighbours), found.warnings)
            if isinstance(extractor, Clip):
                found.figures += clip_score(of_samples, extractor)
        return found

    def check(self, held_out: PictureSource | None = None, watch: Watch | None = None) -> Findings:
        """Self-checks of the data set, with every extractor; `held_out` is more of its kind.

        Raises `DataError` without a data set, or where it is tiny.
        """
        if self._data is None:
            raise DataError("a self-check of no data set is asked for", "Give one with --data")
        found = Findings(data_digest=self._digest)
        size = first_size(self._data)
        noise = NoiseSource(min(len(self._data), _MOST_NOISE), size)
        for extractor in self._extractors:
            progress = _progress(watch, f"noise, {extractor.name}", noise)
            of_noise = features_once(noise, extractor, size, progress)
            of_data, radii = self._of_data(extractor, size, found, watch)
            of_more = None
            if held_out is not None:
                progress = _progress(watch, f"held out, {extractor.name}", held_out)
                of_more = self._cache.features(held_out, extractor, size, progress)
                add_new(of_more.skipped, found.skipped)
            found.checks += self_checks(of_data, of_noise, of_more, self._options, radii)
            add_new(warnings(of_more or of_data, of_data, self._options.neighbours), found.warnings)
        return found

    def _of_data(
        self, extractor: FeatureExtractor, size: Size, found: Findings, watch: Watch | None
    ) -> tuple[FeatureSet, torch.Tensor | None]:
        """Features of the data set and their radii (None: too few pictures), computed at the first call."""
        assert self._data is not None
        key = extractor.digest, size
        if key not in self._known:
            progress = _progress(watch, f"data set, {extractor.name}", self._data)
            features = self._cache.features(self._data, extractor, size, progress, self._digest)
            options = self._options
            enough = len(features) > options.neighbours
            radii = neighbour_radii(features.features, options.neighbours, device=options.device) if enough else None
            self._known[key] = features, radii
        features, radii = self._known[key]
        add_new(features.skipped, found.skipped)
        add_new(self._cache.damaged, found.warnings)
        found.data_pictures = len(features)
        return features, radii


def _progress(watch: Watch | None, what: str, source: PictureSource) -> Progress | None:
    total = len(source)
    return None if watch is None else lambda done: watch(what, done, total)


def add_new(texts: Sequence[str], found: list[str]) -> None:
    """Adds to `found` what it does not hold yet."""
    found += [text for text in dict.fromkeys(texts) if text not in found]


def clip_score(samples: FeatureSet, clip: Clip) -> list[Figure]:
    """100 max(cos, 0) between each picture and its text, mean and deviation (Hessel et al. 2021, scaled as usual).

    Empty where no picture has a text.
    """
    chosen = np.array([number for number, text in enumerate(samples.captions) if text], dtype=np.intp)
    if len(chosen) == 0:
        return []
    texts = [text for text in samples.captions if text]
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    encoded = clip.encode_texts(list(places))[torch.tensor([places[text] for text in texts])]
    similarity = cosine(torch.from_numpy(np.array(samples.features[chosen])), encoded).clamp(min=0) * 100
    return [
        Figure(
            "clip_score", float(similarity.mean()), float(similarity.std(unbiased=False)), clip.name, clip.digest,
            len(chosen),
        )
    ]  # fmt: skip
