"""Figures: a number, and all that must be known to compare it with another."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from headrace.evaluation.feature_set import FeatureSet
from headrace.evaluation.metrics.gaussian import frechet_distance
from headrace.evaluation.metrics.kernel_distance import kernel_distance
from headrace.evaluation.metrics.precision_recall import precision_recall

# What the figures are called for the one extractor that the published ones use.
_PUBLISHED = {
    "frechet_distance": "fid",
    "spatial_frechet_distance": "sfid",
    "class_score": "inception_score",
    "kernel_distance": "kid",
}
HIGHER_IS_BETTER = frozenset(
    {"class_score", "inception_score", "precision", "recall", "psnr", "ssim", "clip_score", "similarity"}
)


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        metric: "fid", "frechet_distance", "precision", ...; distances are called FID, sFID and KID, and class scores
            Inception Scores, with the FID Inception network only.
        value: the number; `deviation` its standard deviation over subsets or pictures, where it has one.
        extractor, digest: whose features, None where pixels are compared.
        samples: pictures measured; `references`: pictures they are measured against, None for none.
    """

    metric: str
    value: float
    deviation: float | None = None
    extractor: str | None = None
    digest: str | None = None
    samples: int = 0
    references: int | None = None


@dataclass(frozen=True)
class MetricOptions:
    """`neighbours`: k of precision and recall. `subsets` of `subset_size`, drawn with `seed`, for kernel distances."""

    neighbours: int = 3
    subsets: int = 100
    subset_size: int = 1000
    seed: int = 0
    device: str = "cpu"


def figures(
    samples: FeatureSet, data: FeatureSet, options: MetricOptions | None = None, radii: torch.Tensor | None = None
) -> list[Figure]:
    """All figures of samples against a data set that their (one) extractor allows. Raises `DataError`.

    `radii`: of the data set's features (`neighbour_radii`), where they were computed before.
    """
    options = options or MetricOptions()
    found: list[tuple[str, float, float | None]] = [
        ("frechet_distance", frechet_distance(samples.gaussian, data.gaussian), None)
    ]
    if samples.spatial is not None and data.spatial is not None:
        found.append(("spatial_frechet_distance", frechet_distance(samples.spatial, data.spatial), None))
    mean, deviation = kernel_distance(
        samples.features, data.features, options.subsets, options.subset_size, options.seed
    )
    found.append(("kernel_distance", mean, deviation))
    if min(len(samples), len(data)) > options.neighbours:
        shares = precision_recall(
            data.features, samples.features, options.neighbours, device=options.device, real_radii=radii
        )
        found += [("precision", shares.precision, None), ("recall", shares.recall, None)]
    if samples.score is not None:
        found.append(("class_score", *samples.score.compute()))
    names = _PUBLISHED if samples.fid else {}
    return [
        Figure(
            names.get(metric, metric), value, deviation, samples.extractor, samples.digest, len(samples),
            None if metric == "class_score" else len(data),
        )
        for metric, value, deviation in found
    ]  # fmt: skip


def warnings(samples: FeatureSet, data: FeatureSet, neighbours: int = 3) -> list[str]:
    """What a reader of the figures has to know about these two sets."""
    found = []
    for name, rows in (("samples", samples), ("pictures in the data set", data)):
        dimension = rows.gaussian.dimension
        if len(rows) < dimension:
            found.append(
                f"{samples.extractor}: {len(rows)} {name} are fewer than the {dimension} feature dimensions, so "
                "Frechet distances are biased upwards; compare them at equal counts only"
            )
        elif rows.spatial is not None and len(rows) < rows.spatial.dimension:
            found.append(
                f"{samples.extractor}: {len(rows)} {name} are fewer than the {rows.spatial.dimension} spatial feature "
                "dimensions, so the spatial Frechet distance is biased upwards"
            )
    if min(len(samples), len(data)) <= neighbours:
        found.append(f"precision and recall need more than {neighbours} pictures in each set, and are left out")
    return found
