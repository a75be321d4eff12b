"""One evaluation: samples against a data set, with every extractor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

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
from headrace.evaluation.pictures import PictureSource, decode, digest
from headrace.evaluation.self_check import NoiseSource, SelfCheck, self_checks

Size = tuple[int, int]
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
    """A data set (or None) that samples are measured against, at one size, with some extractors."""

    def __init__(
        self,
        data: PictureSource | None,
        extractors: Sequence[FeatureExtractor],
        cache: FeatureCache,
        options: MetricOptions | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._data = data
        self._extractors = extractors
        self._cache = cache
        self._options = options or MetricOptions()
        self._watch = watch
        self.findings = Findings(data_digest=None if data is None else digest(data))

    def measure(self, samples: PictureSource) -> None:
        """Figures of the samples: against the data set, where there is one; class and CLIP scores without it.

        The first sample's size is what all pictures are brought to. Raises `DataError` below two readable pictures.
        """
        size = first_size(samples)
        for extractor in self._extractors:
            of_samples = features_once(samples, extractor, size, self._progress(f"samples, {extractor.name}", samples))
            add_new(of_samples.skipped, self.findings.skipped)
            if self._data is not None:
                of_data = self._features(self._data, extractor, size)
                self.findings.figures += figures(of_samples, of_data, self._options)
                add_new(warnings(of_samples, of_data, self._options.neighbours), self.findings.warnings)
            if isinstance(extractor, Clip):
                self.findings.figures += clip_score(of_samples, extractor)

    def check(self) -> None:
        """Self-checks of the data set, with every extractor. Raises `DataError` without one, or where it is tiny."""
        if self._data is None:
            raise DataError("a self-check of no data set is asked for", "Give one with --data")
        size = first_size(self._data)
        noise = NoiseSource(min(len(self._data), _MOST_NOISE), size)
        for extractor in self._extractors:
            of_noise = features_once(noise, extractor, size, self._progress(f"noise, {extractor.name}", noise))
            of_data = self._features(self._data, extractor, size)
            found = self_checks(of_data, of_noise, self._options)
            self.findings.checks += [replace(one, against=f"{one.against} ({extractor.name})") for one in found]
            add_new(warnings(of_data, of_data, self._options.neighbours), self.findings.warnings)

    def _features(self, data: PictureSource, extractor: FeatureExtractor, size: Size) -> FeatureSet:
        progress = self._progress(f"data set, {extractor.name}", data)
        found = self._cache.features(data, extractor, size, progress, self.findings.data_digest)
        add_new(found.skipped, self.findings.skipped)
        self.findings.data_pictures = len(found)
        return found

    def _progress(self, what: str, source: PictureSource) -> Progress | None:
        watch, total = self._watch, len(source)
        return None if watch is None else lambda done: watch(what, done, total)


def add_new(texts: Sequence[str], found: list[str]) -> None:
    """Adds to `found` what it does not hold yet."""
    found += [text for text in dict.fromkeys(texts) if text not in found]


def first_size(source: PictureSource) -> Size:
    """(height, width) of the first picture that can be decoded. Raises `DataError` where none can."""
    for entry in source.entries():
        try:
            pixels = decode(entry)
        except DataError:
            continue
        return pixels.shape[0], pixels.shape[1]
    raise DataError(f"{source.name} holds no readable picture", "Give other pictures")


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
