"""The Inception Score, for any classifier."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.errors import DataError

Array = npt.NDArray[np.float64]


class ClassScore:
    """exp(E KL(p(y|x) || p(y))) over `splits` parts of the pictures (Salimans et al. 2016), in one pass and float64.

    A hash of its number says which part a picture belongs to. Parts of consecutive pictures, or of every tenth, would
    hold a single class where pictures are sorted by class, or made of ten classes in turn, and score far too low.
    Per part are kept: the count, the sum of the class probabilities [C], and the sum of p log p.
    """

    def __init__(self, classes: int, splits: int = 10) -> None:
        self.counts: Array = np.zeros(splits)
        self.probabilities: Array = np.zeros((splits, classes))
        self.negentropy: Array = np.zeros(splits)

    def update(self, logits: npt.NDArray[np.floating]) -> None:
        """Takes the logits [n, C] of the next pictures in. Raises `DataError` where they are not finite."""
        values = np.asarray(logits, dtype=np.float64)
        if not np.isfinite(values).all():
            raise DataError("a class logit is NaN or infinite", "Check the weights of the extractor, and its dtype")
        shifted = values - values.max(axis=1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        p = np.exp(log_p)
        part = part_of(int(self.counts.sum()) + np.arange(len(values)), len(self.counts))
        np.add.at(self.counts, part, 1.0)
        np.add.at(self.probabilities, part, p)
        np.add.at(self.negentropy, part, (p * log_p).sum(axis=1))

    def compute(self) -> tuple[float, float]:
        """(mean, standard deviation) over the parts; parts without a picture are left out. Raises `DataError`."""
        filled = self.counts > 0
        if not filled.any():
            raise DataError("a score of no pictures is asked for", "Give at least one picture")
        marginal = self.probabilities[filled] / self.counts[filled, None]
        log_marginal = np.log(np.where(marginal > 0, marginal, 1.0))
        divergence = self.negentropy[filled] / self.counts[filled] - (marginal * log_marginal).sum(axis=1)
        scores = np.exp(divergence)
        return float(scores.mean()), float(scores.std())


def part_of(numbers: npt.NDArray[np.integer], splits: int) -> npt.NDArray[np.int64]:
    """The part, below `splits`, of each picture number: as good as random, and always the same (splitmix64)."""
    mixed = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) % np.uint64(splits)).astype(np.int64)
