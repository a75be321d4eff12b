"""How good pictures are, one number from 0 to 1 for each."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from headrace.evaluation.extractors.extractor import FeatureExtractor
from headrace.evaluation.features import NearestPictures
from headrace.evaluation.metrics.gaussian import Gaussian, frechet_distance
from headrace.evaluation.metrics.paired import psnr, ssim
from headrace.tuning.prompts import Pictures

Pixels = NDArray[np.uint8]  # [N, H, W, 3]
Floats = NDArray[np.float64]

_CHUNK = 64
_SAME = 100.0  # dB that equal pictures count as
_SSIM_WINDOW = 11


class Judge(Protocol):
    """`metric` is what its number is called."""

    metric: str

    def __call__(self, made: Pixels, plain: Pixels, prompts: NDArray[np.int64]) -> Floats:
        """[N] of pictures of these prompts; `plain` are the plain model's of the same requests."""
        ...


class Recall:
    """1 where the nearest of all real pictures is the prompt's own one, else 0 (`headrace.evaluation.features`)."""

    metric = "recall@1"

    def __init__(self, pictures: Pictures) -> None:
        self._truths = pictures.truths
        self._nearest = NearestPictures(pictures.references)

    def __call__(self, made: Pixels, plain: Pixels, prompts: NDArray[np.int64]) -> Floats:
        """What it says is independent of the plain pictures."""
        ranks = self._nearest.ranks(made, self._truths[prompts])
        return (ranks == 0).astype(np.float64)


class Similarity:
    """Cosine of a picture's features and those of the plain model's picture, less the plain pictures' mean; 0 to 1."""

    def __init__(self, extractor: FeatureExtractor) -> None:
        self.metric = f"similarity, {extractor.name}"
        self._extractor = extractor

    def __call__(self, made: Pixels, plain: Pixels, prompts: NDArray[np.int64]) -> Floats:
        """Equal pictures have 1."""
        own, theirs = features(self._extractor, made), features(self._extractor, plain)
        mean = theirs.mean(axis=0)
        own, theirs = own - mean, theirs - mean
        lengths = np.linalg.norm(own, axis=1) * np.linalg.norm(theirs, axis=1)
        cosines = (own * theirs).sum(axis=1) / np.maximum(lengths, 1e-12)
        same = (made == plain).reshape(len(made), -1).all(axis=1)
        return np.where(same, 1.0, np.clip(cosines, 0.0, 1.0))


def features(extractor: FeatureExtractor, pixels: Pixels) -> Floats:
    """[N, D] pooled features."""
    parts = [extractor(_planes(pixels[start : start + _CHUNK])).pooled for start in range(0, len(pixels), _CHUNK)]
    return torch.cat(parts).cpu().double().numpy()


def distances(made: Pixels, plain: Pixels) -> dict[str, float]:
    """Mean PSNR in dB and SSIM of pictures to the plain model's; SSIM where they are large enough for its window."""
    ours, theirs = _planes(made), _planes(plain)
    found = {"psnr": float(psnr(ours, theirs).clamp(max=_SAME).mean())}
    if min(ours.shape[-2:]) >= _SSIM_WINDOW:
        pairs = zip(ours.split(_CHUNK), theirs.split(_CHUNK), strict=True)
        found["ssim"] = float(torch.cat([ssim(one, other) for one, other in pairs]).mean())
    return found


def frechet(extractor: FeatureExtractor, made: Pixels, reference: Gaussian) -> float:
    """Frechet distance of the pictures' features to those of a reference."""
    return frechet_distance(Gaussian.of(features(extractor, made)), reference)


def _planes(pixels: Pixels) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).contiguous()
