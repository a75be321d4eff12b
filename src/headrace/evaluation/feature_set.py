"""The features of a set of pictures, as `headrace.evaluation.extraction` computes them, mapped from files."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from headrace.errors import CorruptModelError
from headrace.evaluation.metrics.class_score import ClassScore
from headrace.evaluation.metrics.gaussian import Gaussian

FEATURES, STATISTICS, ABOUT = "features.npy", "statistics.safetensors", "about.json"
Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FeatureSet:
    """N pictures as an extractor sees them.

    Attributes:
        extractor, digest: of the extractor.
        fid: whether figures of these features are called FID and so on.
        features: float32 [N, D], usually mapped from a file.
        gaussian: fitted to `features`; `spatial` to the spatial features (None: the extractor has none).
        score: of the class probabilities (None: the extractor is no classifier).
        labels: int64 [N], -1 where a picture has none.
        captions: one text or None a picture.
        skipped: what could not be decoded, and why.
    """

    extractor: str
    digest: str
    fid: bool
    features: Rows
    gaussian: Gaussian
    spatial: Gaussian | None = None
    score: ClassScore | None = None
    labels: npt.NDArray[np.int64] | None = None
    captions: tuple[str | None, ...] = ()
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.features)

    def part(self, chosen: npt.NDArray[np.intp]) -> FeatureSet:
        """These rows only. What was not kept for each picture (spatial features, class scores) is left out."""
        rows = np.asarray(self.features[chosen])
        labels = None if self.labels is None else self.labels[chosen]
        captions = tuple(self.captions[number] for number in chosen) if self.captions else ()
        fitted = Gaussian.of(rows)
        return replace(
            self, features=rows, gaussian=fitted, spatial=None, score=None, labels=labels, captions=captions, skipped=()
        )


def load(folder: Path) -> FeatureSet:
    """What `extract` wrote into a folder. Raises `CorruptModelError` where its files do not fit together."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        features = np.load(folder / FEATURES, mmap_mode="r", allow_pickle=False)
        tensors = load_file(folder / STATISTICS)
        count = int(about["count"])
        if features.shape != (count, len(tensors["pooled.mean"])) or len(tensors["labels"]) != count:
            raise ValueError("lengths differ")
        labels = tensors["labels"] if (tensors["labels"] >= 0).any() else None
        return FeatureSet(
            str(about["extractor"]), str(about["digest"]), bool(about["fid"]), features,
            _gaussian(tensors, "pooled", count),
            _gaussian(tensors, "spatial", count) if "spatial.mean" in tensors else None,
            _score(tensors) if "score.counts" in tensors else None,
            labels, tuple(about["captions"]), tuple(about["skipped"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CorruptModelError(f"the features in {folder} cannot be read: {error}", "Remove the folder") from None


def _gaussian(tensors: dict[str, np.ndarray], name: str, count: int) -> Gaussian:
    fitted = Gaussian(0)
    fitted.count, fitted.mean, fitted.scatter = count, tensors[f"{name}.mean"], tensors[f"{name}.scatter"]
    return fitted


def _score(tensors: dict[str, np.ndarray]) -> ClassScore:
    score = ClassScore(tensors["score.probabilities"].shape[1], len(tensors["score.counts"]))
    score.counts, score.probabilities = tensors["score.counts"], tensors["score.probabilities"]
    score.negentropy = tensors["score.negentropy"]
    return score
