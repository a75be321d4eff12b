"""Randomness that is a function of (seed, step): a run that was killed continues as if it had not been."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch


def batch_indices(seed: int, step: int, batch_size: int, count: int, group: int = 1) -> np.ndarray:
    """The `batch_size` indices below `count` of a step (from 0): each pass visits every item once, in its own order.

    `group`: so many indices that stand together, from the first on, are all different. A pass then leaves out the last
    few of its order, fewer than `group`, so that no group lies in two passes; `count` is at least `group`.
    """
    first = step * batch_size
    passes, places = np.divmod(np.arange(first, first + batch_size), count - count % group)
    return np.concatenate([_pass_order(seed, int(one), count)[places[passes == one]] for one in np.unique(passes)])


@lru_cache(maxsize=2)
def _pass_order(seed: int, number: int, count: int) -> np.ndarray:
    """The order of one pass, int64 [count]. Kept while it is in use: a permutation takes longer than a small step."""
    return np.random.default_rng((seed, number)).permutation(count)


def step_generator(seed: int, step: int, device: torch.device) -> torch.Generator:
    """The random stream of one step: the same on every process, which all draw for the whole step."""
    return torch.Generator(device).manual_seed(_word(seed, step))


def part_seed(seed: int, step: int, part: int) -> int:
    """The seed of torch's own generator (dropout inside networks) for one part of a step."""
    return _word(seed, step, part)


def _word(*entropy: int) -> int:
    """63 well mixed bits."""
    words = np.random.SeedSequence(entropy).generate_state(2, np.uint32)
    return int(words[0]) << 31 | int(words[1]) >> 1
