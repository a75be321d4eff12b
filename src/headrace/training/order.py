"""Randomness that is a function of (seed, step): a run that was killed continues as if it had not been."""

from __future__ import annotations

import numpy as np
import torch


def batch_indices(seed: int, step: int, batch_size: int, count: int) -> np.ndarray:
    """The `batch_size` indices below `count` of a step (from 0): each pass visits every item once, in its own order."""
    first = step * batch_size
    positions = np.arange(first, first + batch_size)
    passes, places = np.divmod(positions, count)
    orders = {number: np.random.default_rng((seed, int(number))).permutation(count) for number in np.unique(passes)}
    return np.array([orders[number][place] for number, place in zip(passes, places, strict=True)])


def step_generator(seed: int, step: int, rank: int, device: torch.device) -> torch.Generator:
    """The random stream of one step on one process."""
    words = np.random.SeedSequence((seed, step, rank)).generate_state(2, np.uint32)
    return torch.Generator(device).manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
