"""Figures of pictures that ought to be the same: pixels and features, pair by pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from headrace.errors import DataError, HeadraceError
from headrace.evaluation.extractors.extractor import FeatureExtractor
from headrace.evaluation.figures import Figure
from headrace.evaluation.metrics.paired import cosine, psnr, ssim
from headrace.pictures.decoding import decode
from headrace.pictures.folder import FileSource

# Equal pictures have an infinite ratio, which no mean survives: they count as this many dB.
EQUAL_PSNR = 100.0
Pair = tuple[Path, Path]


def paired_figures(
    pairs: Sequence[Pair], extractors: Sequence[FeatureExtractor] = (), progress: Callable[[int], None] | None = None
) -> tuple[list[Figure], list[str]]:
    """PSNR, SSIM, and the cosine similarity in the features of each extractor, of (picture, reference) files.

    Means and deviations over the pairs; and, as the second result, the pairs that were skipped, with the reason: a file
    that is no picture, or sizes that differ. Raises `DataError` where no pair is left.
    """
    values: dict[tuple[str, str | None, str | None], list[float]] = {}
    skipped: list[str] = []
    for number, pair in enumerate(pairs, start=1):
        try:
            first, second = (_load(path) for path in pair)
            found = _measure(first, second, extractors)
        except DataError as error:
            skipped.append(f"{pair[0].name}: {error.problem}")
            continue
        for name, value in found.items():
            values.setdefault(name, []).append(value)
        if progress is not None:
            progress(number)
    if not values:
        raise DataError(f"of {len(pairs)} pair(s) of pictures none could be compared", "; ".join(skipped[:3]))
    figures = [
        Figure(metric, float(np.mean(all_)), float(np.std(all_)), extractor, digest, len(all_), len(all_))
        for (metric, extractor, digest), all_ in values.items()
    ]
    return figures, skipped


def _load(path: Path) -> torch.Tensor:
    entry = next(iter(FileSource(str(path), [path]).entries()))
    return torch.from_numpy(np.array(decode(entry))).permute(2, 0, 1)[None].contiguous()


def _measure(
    picture: torch.Tensor, reference: torch.Tensor, extractors: Sequence[FeatureExtractor]
) -> dict[tuple[str, str | None, str | None], float]:
    found: dict[tuple[str, str | None, str | None], float] = {
        ("psnr", None, None): min(EQUAL_PSNR, float(psnr(picture, reference)[0]))
    }
    if min(picture.shape[-2:]) >= 11:
        found["ssim", None, None] = float(ssim(picture, reference)[0])
    for extractor in extractors:
        both = extractor(torch.cat([picture, reference])).pooled
        found["similarity", extractor.name, extractor.digest] = float(cosine(both[:1], both[1:])[0])
    return found


def pair_up(pictures: dict[str, Path], references: dict[str, Path]) -> list[Pair]:
    """(picture, reference) files whose keys are equal, in the order of the pictures. Raises `HeadraceError` if none."""
    pairs = [(path, references[key]) for key, path in pictures.items() if key in references]
    if not pairs:
        raise HeadraceError(
            f"none of {len(pictures)} picture(s) has its pair among {len(references)} reference(s)",
            "Pairs have the same request (prompt, class, seed, size), or, without settings in the files, the same name",
        )
    return pairs
