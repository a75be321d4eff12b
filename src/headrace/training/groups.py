"""Pictures that are computed together: groups of K different ones."""

from __future__ import annotations

import numpy as np

from headrace.errors import DataError, RecipeError
from headrace.pictures.spread import spread_indices
from headrace.training.data import ImageSet


def check_enough(data: ImageSet, group: int) -> None:
    """Raises `DataError` where a data set has fewer pictures than a group."""
    if len(data) < group:
        raise DataError(
            f"a data set has {len(data)} pictures, and groups are of {group} different ones",
            "Give more pictures, or lower fusion",
        )


def check_batch(batch_size: int, pictures: int) -> None:
    """Raises `RecipeError` where a batch is not a multiple of the pictures that a latent is of."""
    if batch_size % pictures:
        raise RecipeError(
            f"loop.batch_size is {batch_size}, and a latent of the autoencoder is of {pictures} pictures",
            f"Set a multiple of {pictures}",
        )


def spread_groups(count: int, most: int, group: int) -> np.ndarray:
    """At most `most` indices spread over `count`, those of a group together and far from each other in the data set.

    Their number is a multiple of `group`, at least one group of `count` or more.
    """
    chosen = spread_indices(count, max(most, group))
    return chosen[: len(chosen) // group * group].reshape(group, -1).T.flatten()
