"""Whether few prompts rank settings as many do (supplement, Fig. 3): Kendall's tau between the two rankings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from headrace.benchmarks._block_cache.quality import Judged, Reference
from headrace.evaluation.features import NearestPictures

DRAWS = 200
Scores = NDArray[np.floating]  # [contestants, pictures], larger is better


def picture_scores(contestants: Sequence[Judged], reference: Reference | None) -> dict[str, Scores]:
    """By measure, of every contestant but the first, which is plain: what each of its pictures is worth.

    Minus the mean squared error to the plain picture and, where there is data, whether the picture is recalled.
    """
    plain, *others = contestants
    expected = plain.pixels.astype(np.float32)
    scores = {
        "psnr": np.stack([-np.square(one.pixels - expected).mean(axis=(1, 2, 3), dtype=np.float64) for one in others])
    }
    if reference is not None:
        nearest = NearestPictures(reference.data.images.permute(0, 2, 3, 1).contiguous().numpy())
        scores["recall"] = np.stack([nearest.ranks(one.pixels, reference.chosen) == 0 for one in others]).astype(float)
    return scores


def agreement(scores: Scores, few: int, seed: int = 0) -> float:
    """Kendall's tau-b between the ranking by `few` pictures, drawn anew each time, and the one by all others.

    The mean over draws; 1 is the same ranking, 0 is chance. Measured against pictures that were not drawn, so no
    ranking agrees with itself.
    """
    draw = np.random.default_rng(seed)
    count = scores.shape[1]
    found = []
    for _ in range(DRAWS):
        order = draw.permutation(count)
        small, rest = scores[:, order[:few]].mean(axis=1), scores[:, order[few:]].mean(axis=1)
        found.append(float(kendalltau(small, rest).statistic))
    return float(np.nanmean(found))


def agreements(contestants: Sequence[Judged], reference: Reference | None) -> dict[str, dict[int, float]]:
    """By measure and number of pictures (an eighth, a quarter and half of all): how well they rank the contestants."""
    scores = picture_scores(contestants, reference)
    sizes = sorted({count for share in (8, 4, 2) if (count := scores["psnr"].shape[1] // share) >= 2})
    return {measure: {size: round(agreement(values, size), 3) for size in sizes} for measure, values in scores.items()}
